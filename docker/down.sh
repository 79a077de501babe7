#!/usr/bin/env bash
# Stops and removes our containers and networks, and the engine if bootstrap.sh started it and nobody
# else uses it. Volumes, with the data and the passwords, stay; --volumes removes them too.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

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

if timeout 10 docker info >/dev/null 2>&1; then
  compose -f compose.yaml -f compose.demo.yaml --profile demo down --remove-orphans --timeout 40 "$@"
  # What an interrupted test run left.
  docker ps -aq --filter label=joblogs.e2e | xargs -r docker rm -fv >/dev/null
  if [[ -s $cache_dir/engine.pid ]]; then stop_engine "$(<"$cache_dir/engine.pid")"; fi
fi
if [[ $* == *--volumes* ]]; then
  rm -rf docker/.programs
  say "down; data and passwords are gone"
else
  say "down; data and passwords are kept, 'make clean' removes them"
fi
