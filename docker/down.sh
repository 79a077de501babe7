#!/usr/bin/env bash
# Stops and removes the containers and networks of the installation and of the demo, and the engine if
# bootstrap.sh started it and nobody else uses it. Volumes, with the data and the passwords, stay; --volumes
# removes them too, and our own images.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

volumes_of() { docker volume ls -q --filter "label=com.docker.compose.project=$(project_of "$1")"; }

# holds up|demo: whether there is anything of it that is to go.
holds() {
  local networks
  networks=$(docker network ls -q --filter "label=com.docker.compose.project=$(project_of "$1")")
  [[ $networks || $(containers_of "$1" -a) || ($everything && $(volumes_of "$1")) ]]
}

# What an interrupted test run left: the rule is that of tests/e2e/containers.rs, so that one under way goes on.
remove_abandoned_tests() {
  local id owner
  docker ps -a --filter "label=joblogs.e2e.host=$(</proc/sys/kernel/hostname)" \
    --format '{{.ID}} {{.Label "joblogs.e2e"}}' | while read -r id owner; do
    [[ $(cat "/proc/$owner/comm" 2>/dev/null) == e2e* ]] || docker rm -fv "$id" >/dev/null || true # it may be just going
  done
}

# stop_engine PID: only the very process that was started here.
stop_engine() {
  runs dockerd "$1" || return 0
  if [[ -n $(docker ps -q) ]]; then
    say "the Docker engine stays: other containers run on it"
    return
  fi
  say "stopping the Docker engine, which 'make up' had started"
  kill -TERM "$1"
  is_gone() { ! runs dockerd "$1"; }
  wait_for 30 is_gone "$1" || die "the Docker engine (process $1) did not stop within 30 s"
  rm -f "$cache_dir/engine.pid"
}

everything=
if [[ ${1-} == --volumes ]]; then everything=yes; fi
if command -v docker >/dev/null && ! engine_answers; then
  explain_silent_engine
  if [[ $everything ]]; then
    docker/bootstrap.sh # the volumes are the engine's
  else
    say "the Docker engine does not run, so nothing does; data and passwords are kept, 'make clean' removes them"
    exit
  fi
fi
if command -v docker >/dev/null; then
  for what in demo up; do
    holds $what || continue
    compose $what down --remove-orphans --timeout 40
    if [[ $everything ]]; then volumes_of $what | xargs -r docker volume rm >/dev/null; fi
  done
  remove_abandoned_tests
  if [[ $everything ]]; then
    # One that somebody's container still uses stays.
    docker image ls -q --filter label=org.opencontainers.image.title=joblogs | sort -u |
      xargs -r docker image rm -f >/dev/null 2>&1 || true
  fi
  if [[ -s $cache_dir/engine.pid ]]; then stop_engine "$(<"$cache_dir/engine.pid")"; fi
fi
if [[ $everything ]]; then
  rm -rf docker/.programs
  say "down; data and passwords are gone"
else
  say "down; data and passwords are kept, 'make clean' removes them"
fi
