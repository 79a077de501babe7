#!/usr/bin/env bash
# Makes this machine able to run `docker compose`: an engine, the compose plugin, buildx.
# What is there is left alone; what is missing is installed on Debian and Ubuntu, by root only.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

oldest_compose=2.24.4 # the first that takes !override

# A pid file that outlived its process keeps the engine from starting once the number is taken again.
drop_stale_pid_files() {
  local file=/run/docker.pid
  [[ ! -s $file ]] || runs dockerd "$(<$file)" || rm -f $file
  file=/run/docker/containerd/containerd.pid
  [[ ! -s $file ]] || runs containerd "$(<$file)" || rm -f $file
}

# engine_pid: of the engine that runs, whoever started it.
engine_pid() {
  local pid
  for pid in $(pgrep -x dockerd); do
    if runs dockerd "$pid"; then
      echo "$pid"
      return
    fi
  done
  return 1
}

start_engine() {
  is_root || die "the Docker engine is not running: start it (sudo systemctl start docker), or run this as root"
  if [[ -d /run/systemd/system ]]; then
    say "starting the Docker engine by systemd"
    logged systemctl timeout 60 systemctl start docker || die "systemctl could not start docker"
  elif ! engine_pid >/dev/null; then
    say "starting the Docker engine in the background (log: docker/.cache/dockerd.log)"
    drop_stale_pid_files
    setsid -f dockerd >"$cache_dir/dockerd.log" 2>&1 </dev/null
    started_here=yes
  fi
  if ! wait_for 60 engine_answers; then
    tail -n 5 "$cache_dir/dockerd.log" >&2 2>/dev/null || true
    die "the Docker engine did not answer within 60 s; docker/.cache/dockerd.log says why"
  fi
  # `make down` stops an engine that was started here, and no other.
  if [[ ${started_here-} ]]; then engine_pid >"$cache_dir/engine.pid"; fi
}

ensure_engine() {
  if command -v docker >/dev/null; then
    engine_answers && return
    explain_silent_engine
  fi
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v pgrep >/dev/null || missing+=(procps)
  ((${#missing[@]} == 0)) || install_packages "the Docker engine" "${missing[@]}" ca-certificates
  start_engine
}

# A plugin of the Docker CLI is one program: where the distribution has none of version 2, the one of
# Debian 13 runs on Debian 12 and on Ubuntu too.
plugin_from_debian_13() {
  local package=$1 program=$2 apt=$cache_dir/apt-trixie
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ -f $keyring ]] || install_packages "the keys of Debian" debian-archive-keyring
  rm -rf "$apt"
  mkdir -p "$apt"/{lists/partial,cache/archives/partial,out}
  printf 'deb [signed-by=%s] %s trixie main\n' "$keyring" "$(debian_mirror)" >"$apt/sources.list"
  local options=("${apt_options[@]}" -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=
    -o Acquire::Languages=none -o APT::Default-Release=)
  say "fetching $package of Debian 13 into ~/.docker/cli-plugins"
  (cd "$apt/out" && logged plugin-update timeout 120 apt-get "${options[@]}" update &&
    logged plugin-download timeout 300 apt-get "${options[@]}" download "$package" &&
    dpkg -x "$package"_*.deb tree) || return 1
  install -D "$(find "$apt/out/tree" -type f -path "*/cli-plugins/$program")" "$HOME/.docker/cli-plugins/$program"
  rm -rf "$apt"
}

# candidate_is_2 PACKAGE: whether apt here has it, and in Compose's second generation.
candidate_is_2() {
  [[ $(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ { print $2 }') =~ ^([0-9]+:)?([2-9]|[1-9][0-9])\. ]]
}

ensure_plugins() {
  if ! docker compose version >/dev/null 2>&1; then
    command -v apt-get >/dev/null || die "docker compose is missing: see https://docs.docker.com/compose/install/"
    if is_root; then apt_update; fi
    if is_root && candidate_is_2 docker-compose-v2; then
      install_packages "docker compose" docker-compose-v2
    elif is_root && candidate_is_2 docker-compose; then
      install_packages "docker compose" docker-compose
    else
      plugin_from_debian_13 docker-compose docker-compose ||
        die "docker compose is missing and could not be fetched: see https://docs.docker.com/compose/install/"
    fi
  fi
  if ! docker buildx version >/dev/null 2>&1; then
    if is_root && [[ $(apt-cache policy docker-buildx 2>/dev/null) == *Candidate:\ [0-9]* ]]; then
      install_packages "docker buildx" docker-buildx
    else
      plugin_from_debian_13 docker-buildx docker-buildx ||
        die "docker buildx is missing and could not be fetched: see https://docs.docker.com/build/install-buildx/"
    fi
  fi
  docker compose version >/dev/null 2>&1 || die "docker compose does not run; 'docker compose version' says why"
  local version
  version=$(docker compose version --short)
  version=${version#v}
  [[ $(printf '%s\n' "$version" "$oldest_compose" | sort -V | head -n 1) == "$oldest_compose" ]] ||
    die "docker compose is $version and $oldest_compose is needed: see https://docs.docker.com/compose/install/"
}

ensure_engine
ensure_plugins
