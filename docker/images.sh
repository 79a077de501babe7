#!/usr/bin/env bash
# Decides which images are used, and sees that they are there: the official ones where a registry gives
# them, else stand-ins made of packages. The result is docker/.cache/images.env, for compose and tests, and
# with the argument `programs` also programs.env: how our own image is made.
# What was pulled or built stays in use: a second run asks no registry. REFRESH=1 asks again.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

rabbitmq_version=4.0.5
elasticsearch_version=8.19.21
opensearch_version=3.8.0
base=joblogs-offline/debian:trixie
registry_patience=8 # seconds within which a registry has to answer
silent=$cache_dir/images-that-no-registry-gave
export DOCKER_BUILDKIT=1

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# --- official images

# pull IMAGE: by the engine, so that its mirrors and its login count; gives up on a silent registry.
pull() {
  local log=$cache_dir/pull.log pid deadline=$((SECONDS + registry_patience))
  grep -qsxF "$1" "$silent" && return 1
  : >"$log"
  timeout 1800 docker pull "$1" >"$log" 2>&1 </dev/null &
  pid=$!
  until grep -q 'Pulling from' "$log"; do
    if ((SECONDS >= deadline)) || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.2
  done
  if grep -q 'Pulling from' "$log"; then say "pulling $1"; else kill "$pid" 2>/dev/null || true; fi
  wait "$pid" 2>/dev/null && return
  say "no registry gives $1"
  echo "$1" >>"$silent"
  return 1
}

# --- stand-ins

# What an image is made of, as a hash that it carries as a label.
hash_of() { sha256sum | cut -c1-16; }
base_inputs() { echo "trixie minbase ca-certificates $(uname -m)" | hash_of; }
rabbitmq_inputs() { { base_inputs; cat docker/standin/rabbitmq/*; } | hash_of; }
elasticsearch_inputs() { { base_inputs; echo $elasticsearch_version; cat docker/standin/elasticsearch/*; } | hash_of; }
opensearch_inputs() { { base_inputs; echo $opensearch_version; cat docker/standin/opensearch/*; } | hash_of; }
is_made_of() { [[ $(docker image inspect -f '{{index .Config.Labels "joblogs.inputs"}}' "$1" 2>/dev/null) == "$2" ]]; }

build_base() {
  local tree=$cache_dir/trixie keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  is_made_of $base "$(base_inputs)" && return
  is_root || die "building the stand-in images needs root, for debootstrap: run 'make images' once as root"
  if ! command -v debootstrap >/dev/null || [[ ! -f $keyring ]]; then
    install_packages "debootstrap" debootstrap debian-archive-keyring
  fi
  say "building $base by debootstrap from $(debian_mirror)"
  rm -rf "$tree"
  logged debootstrap timeout 900 debootstrap --variant=minbase --include=ca-certificates --keyring=$keyring \
    trixie "$tree" "$(debian_mirror)" || die "debootstrap failed; docker/.cache/debootstrap.log says why"
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
  tar -C "$tree" -c . | docker import --change "LABEL joblogs.inputs=$(base_inputs)" - $base >/dev/null ||
    die "the engine did not take the tree that debootstrap made"
  rm -rf "$tree"
}

# build IMAGE INPUTS CONTEXT
build() {
  say "building $1"
  logged build timeout 1200 docker build --label "joblogs.inputs=$2" -t "$1" "$3" ||
    die "$1 could not be built; docker/.cache/build.log says why"
}

# fetch WHAT ARGUMENT...: of Maven's, which gets it from Maven Central.
fetch() {
  command -v mvn >/dev/null || install_packages "maven, to fetch $1" maven default-jre-headless
  say "fetching $1 from Maven Central"
  logged maven timeout 900 mvn --batch-mode --strict-checksums "${@:2}" ||
    die "Maven Central did not give $1; docker/.cache/maven.log says why"
}

standin_rabbitmq() {
  image=joblogs-offline/rabbitmq:$rabbitmq_version
  is_made_of "$image" "$(rabbitmq_inputs)" && return
  build_base
  build "$image" "$(rabbitmq_inputs)" docker/standin/rabbitmq
}

standin_elasticsearch() {
  local context=$cache_dir/elasticsearch
  image=joblogs-offline/elasticsearch:$elasticsearch_version
  is_made_of "$image" "$(elasticsearch_inputs)" && return
  build_base
  rm -rf "$context"
  cp -r docker/standin/elasticsearch "$context"
  fetch "the core of Elasticsearch $elasticsearch_version" dependency:copy -Dmdep.stripVersion=true \
    -Dartifact=org.elasticsearch.distribution.integ-test-zip:elasticsearch:$elasticsearch_version:zip \
    -DoutputDirectory="$context"
  build "$image" "$(elasticsearch_inputs)" "$context"
  rm -rf "$context"
}

standin_opensearch() {
  local context=$cache_dir/opensearch
  image=joblogs-offline/opensearch:$opensearch_version
  is_made_of "$image" "$(opensearch_inputs)" && return
  build_base
  rm -rf "$context"
  cp -r docker/standin/opensearch "$context"
  fetch "OpenSearch $opensearch_version" --file "$context/pom.xml" dependency:copy-dependencies \
    -Dopensearch.version=$opensearch_version -DoutputDirectory="$context/jars"
  build "$image" "$(opensearch_inputs)" "$context"
  rm -rf "$context"
}

# Of Kibana there is no package: without a registry it is left out, and an empty name says so.
standin_kibana() { image=; }

# --- the decision

# compose_image SERVICE COMPOSE_OPTION...: the image that compose.yaml and the variables name.
compose_image() {
  local service=$1
  shift
  docker compose -f compose.yaml "$@" config | awk -v service="  $service:" '
    $0 == service { inside = 1; next }
    inside && $1 == "image:" { print $2; exit }'
}

# choose SERVICE: sets image.
choose() {
  local official
  image=$(compose_image "$1") || die "compose.yaml, .env or a variable is not as it should be: above is what docker compose says"
  official=$(unset "${1^^}_IMAGE" && compose_image "$1" --env-file /dev/null)
  obtain "$1" "$official"
}

# obtain SERVICE OFFICIAL: sees that the image is there; where no registry gives the official one, sets the stand-in.
obtain() {
  local official=$2
  if has_image "$image" || pull "$image"; then return; fi
  [[ $image == "$official" || $image == joblogs-offline/* ]] ||
    die "$image is neither here nor in a registry within reach: load it, or unset ${1^^}_IMAGE"
  "standin_$1"
}

default_of() { sed -n "s/^ARG $1=//p" docker/Dockerfile; }

# Our own programs: compiled in the official Rust image, or by this machine's cargo and copied in.
choose_programs() {
  local rust debian
  rust=$(default_of RUST_IMAGE)
  debian=$(default_of BASE_IMAGE)
  programs=$(setting JOBLOGS_PROGRAMS)
  if [[ -z $programs ]]; then
    programs=ready
    if has_image "$rust" || pull "$rust"; then programs=source; fi
  fi
  [[ $programs == source ]] || command -v cargo >/dev/null ||
    die "no registry gives $rust and there is no cargo here: install Rust (https://rustup.rs), or set JOBLOGS_IMAGE"
  if ! has_image "$debian" && ! pull "$debian"; then
    build_base
    debian=$base
  fi
  printf 'JOBLOGS_PROGRAMS=%s\nJOBLOGS_BASE_IMAGE=%s\n' "$programs" "$debian"
}

choose_servers() {
  local service
  for service in rabbitmq elasticsearch kibana; do
    choose $service
    echo "${service^^}_IMAGE=$image"
  done
}

# No service of compose.yaml has it.
choose_opensearch() {
  local official=opensearchproject/opensearch:$opensearch_version
  image=$(setting OPENSEARCH_IMAGE)
  image=${image:-$official}
  obtain opensearch $official
}

choose_servers_with_opensearch() {
  choose rabbitmq
  echo "RABBITMQ_IMAGE=$image"
  choose_opensearch
  echo "OPENSEARCH_IMAGE=$image"
}

# keep FILE COMMAND: what it prints, at once or not at all; two runs at a time don't disturb each other.
keep() {
  new=$cache_dir/$1.$$
  trap 'rm -f "$new"' EXIT
  "$2" >"$new"
  mv "$new" "$cache_dir/$1"
}

if [[ ${REFRESH-} ]]; then rm -f "$silent"; fi
case ${1-} in
  opensearch) keep opensearch.env choose_servers_with_opensearch ;;
  # The tests bring their own programs and have no use for ours in an image.
  "" | elasticsearch) keep images.env choose_servers ;;
  programs)
    keep images.env choose_servers
    keep programs.env choose_programs
    ;;
  *) die "there is no engine $1: ENGINE is elasticsearch or opensearch" ;;
esac
