# shellcheck shell=bash
# What the scripts here share: how they speak, how they install packages, and what they run by compose.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache_dir=$root_dir/docker/.cache
mkdir -p "$cache_dir"
export HOME=${HOME:-/root}

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# wait_for SECONDS COMMAND...: true as soon as the command is, false at the deadline.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.5
  done
}

# setting NAME: the operator's, from the environment or from .env, as compose reads it.
setting() {
  local value=${!1-}
  [[ -n $value ]] || value=$(sed -n "s/^$1=\([\"']\{0,1\}\)\(.*\)\1\$/\2/p" "$root_dir/.env" 2>/dev/null | tail -n 1)
  printf '%s' "$value"
}

is_root() { [[ $(id -u) == 0 ]]; }

# runs PROGRAM PID: a zombie, which nobody waited for, has no program any more.
runs() { [[ $(readlink "/proc/$2/exe" 2>/dev/null) == */"$1" ]]; }

# logged NAME COMMAND...: runs it with its output in a file, of which a failure shows the end.
logged() {
  local log=$cache_dir/$1.log
  shift
  "$@" >"$log" 2>&1 </dev/null && return
  tail -n 15 "$log" >&2
  return 1
}

# Quick to give up on a source that does not answer, patient with another apt that holds the lock.
apt_options=(-y -q -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
  -o DPkg::Lock::Timeout=300)

apt_update() {
  [[ ${apt_updated-} ]] && return
  say "asking apt for its package lists"
  # A third-party source that is out of reach is no reason to stop: the installation will tell.
  logged apt-update timeout 300 apt-get "${apt_options[@]}" update || true
  apt_updated=yes
}

# install_packages WHY PACKAGE...
install_packages() {
  local why=$1
  shift
  command -v apt-get >/dev/null || die "$why: missing, and this is neither Debian nor Ubuntu; install $* by hand"
  is_root || die "$why: missing; run this once as root, or: sudo apt-get install $*"
  apt_update
  say "installing $why: $*"
  DEBIAN_FRONTEND=noninteractive logged apt-install timeout 900 \
    apt-get "${apt_options[@]}" --no-install-recommends install "$@" ||
    die "$why: apt-get could not install $*; its output is in docker/.cache/apt-install.log"
}

# The Debian mirror that this machine uses itself, for a closed network has its own.
debian_mirror() {
  local mirror=${DEBIAN_MIRROR-}
  if [[ -z $mirror ]] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2016 # apt-get fills these in
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }') || true
  fi
  mirror=${mirror:-http://deb.debian.org/debian}
  printf '%s\n' "${mirror%/}"
}

engine_answers() { timeout 10 docker info >/dev/null 2>&1; }

# Of an engine that runs but not for this user; it would look as if there were none.
explain_silent_engine() {
  local answer
  answer=$(timeout 10 docker info 2>&1 || true)
  if [[ $answer == *"permission denied"* ]]; then
    die "you may not use the Docker engine: run 'sudo usermod -aG docker $(id -un)' and log in again, or be root"
  fi
}

# project_of up|demo: the demo is an installation of its own beside the real one.
project_of() {
  local project
  project=$(setting COMPOSE_PROJECT_NAME)
  if [[ $1 == demo ]]; then echo "${project:-joblogs}-demo"; else echo "${project:-joblogs}"; fi
}

# containers_of up|demo OPTION...: their ids, of those that run unless an option says otherwise.
containers_of() { docker ps -q --filter "label=com.docker.compose.project=$(project_of "$1")" "${@:2}"; }

# compose up|demo ARGUMENT...: docker compose with the images that were chosen; the operator's .env counts, and
# for the real one a compose.override.yaml, as they do without us.
compose() {
  local file options=(--project-directory "$root_dir" -p "$(project_of "$1")")
  for file in "$root_dir/.env" "$cache_dir"/{images,programs}.env; do
    [[ ! -e $file ]] || options+=(--env-file "$file")
  done
  if [[ $1 == demo ]]; then options+=(-f compose.yaml -f compose.demo.yaml --profile demo); fi
  docker compose "${options[@]}" "${@:2}"
}
