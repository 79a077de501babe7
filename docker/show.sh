#!/usr/bin/env bash
# `make logs` and `make passwords`: of the installation and of the demo, as far as they are there.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

# Both at once would be hard to tell apart.
follow_logs() {
  local what=up
  if [[ ${DEMO-} || ! $(containers_of up -a) ]]; then what=demo; fi
  [[ $(containers_of $what -a) ]] || die "there is nothing to show: 'make up' or 'make demo' starts it"
  if [[ $what == up && $(containers_of demo) ]]; then say "the demo's: DEMO=1 make logs"; fi
  if [[ $what == demo ]]; then say "these are the demo's"; fi
  compose $what logs --follow --tail 100
}

show_passwords() {
  local what project found=
  for what in up demo; do
    project=$(project_of $what)
    [[ $(docker volume ls -q --filter "name=^${project}_passwords$") ]] || continue
    if [[ $what == demo ]]; then echo "${found:+$'\n'}The demo's:"; fi
    compose $what run --rm --no-deps -T passwords passwords show
    found=yes
  done
  [[ $found ]] || die "there are no passwords yet: 'make up' makes them"
}

if ! command -v docker >/dev/null || ! engine_answers; then
  explain_silent_engine
  die "the Docker engine does not run: 'make up' starts it, and all of Joblogs"
fi
case ${1-} in
  logs) follow_logs ;;
  passwords) show_passwords ;;
  *) die "usage: show.sh logs|passwords" ;;
esac
