#!/usr/bin/env bash
# `make up` and `make demo`: checks what would go wrong, starts everything, says where it is.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

what=${1:-up}
files=(-f compose.yaml)
if [[ $what == demo ]]; then files+=(-f compose.demo.yaml --profile demo); fi
ours() { compose "${files[@]}" "$@"; }

# --- what is asked for: compose's own view of it, once images.sh has chosen

read_config() {
  local config
  config=$(ours config) || die "compose.yaml, .env or a variable is not as it should be"
  project=$(awk '$1 == "name:" { print $2; exit }' <<<"$config")
  ports=$(ports <<<"$config")
  services=$(ours config --services | grep -v '^demo$' | tr '\n' ' ')
  # An empty name stands for what no registry gave.
  if grep -q '^KIBANA_IMAGE=$' "$cache_dir/images.env"; then services=${services/kibana /}; fi
}

# ports: a line each of "service variable published"; the variable is what moves it.
ports() {
  awk '
    /^  [a-z]+:$/ { service = substr($1, 1, length($1) - 1) }
    /^[a-z]/ { service = "" }
    $1 == "target:" { target = $2 }
    $1 == "published:" { gsub(/"/, ""); variable = toupper(service) (target == 15672 ? "_MANAGEMENT" : "") "_PORT"
                         print service, variable, $2 }'
}

port_of() { awk -v name="$1" '$2 == name { print $3 }' <<<"$ports"; }

# --- preflight: what would end in a puzzling error later

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
  local service variable port holder
  while read -r service variable port; do
    [[ $services == *"$service"* ]] || continue
    [[ -z $(docker ps -q --filter "publish=$port" --filter "label=com.docker.compose.project=$project") ]] || continue
    listens "$port" || continue
    holder=$(docker ps --filter "publish=$port" --format 'the container {{.Names}}')
    die "port $port of $service is taken by ${holder:-another program}: stop it, or choose another: $variable=$((port + 1)) make $what"
  done <<<"$ports"
}

check_memory() {
  local has need=2000 heap
  heap=$(setting ELASTICSEARCH_HEAP)
  if [[ $services == *kibana* ]]; then need=3500; fi
  has=$(($(docker info --format '{{.MemTotal}}') / 1000000))
  [[ $heap ]] || ((has >= need)) ||
    die "the Docker engine has $has MB of memory and this needs $need MB: give it more, or try a smaller heap: ELASTICSEARCH_HEAP=512m make $what"
}

check_map_count() {
  local has
  has=$(cat /proc/sys/vm/max_map_count 2>/dev/null || echo 262144)
  # A single node starts with less, but may run out of it with many indices.
  ((has >= 262144)) ||
    say "note: vm.max_map_count is $has and Elasticsearch wants 262144 for many indices: sysctl -w vm.max_map_count=262144"
}

check_volumes() {
  local volumes given
  given=$(setting JOBLOGS_SECRETS)
  volumes=" $(docker volume ls -q --filter "label=com.docker.compose.project=$project" | tr '\n' ' ') "
  [[ $volumes != *" ${project}_elasticsearch "* || $volumes == *" ${project}_passwords "* || $(setting ELASTIC_PASSWORD) ]] ||
    [[ -e ${given:-docker/secrets}/elastic_password ]] ||
    die "the volume ${project}_elasticsearch was made with a password that is gone with the volume ${project}_passwords: give it (ELASTIC_PASSWORD=… make $what), or begin anew: make clean"
}

# --- the image of the programs

build_image() {
  [[ -z $(setting JOBLOGS_IMAGE) ]] || return 0
  local programs
  programs=$(awk -F= '$1 == "JOBLOGS_PROGRAMS" { print $2 }' "$cache_dir/images.env")
  if [[ $programs == ready ]]; then
    say "compiling the programs with this machine's cargo"
    timeout 3600 cargo build --release --locked --workspace --bins || die "the programs did not compile"
    mkdir -p docker/.programs
    # -C leaves what is the same untouched.
    install -C -t docker/.programs "${CARGO_TARGET_DIR:-target}"/release/{listener,consumer,initmq,demo}
  fi
  say "building the image of the programs (${programs/ready/from ready-made binaries}; log: docker/.cache/image.log)"
  logged image timeout 3600 env DOCKER_BUILDKIT=1 docker/compose.sh "${files[@]}" --progress plain build ||
    die "the image could not be built; docker/.cache/image.log says why"
  # The one that it replaces would stay for ever, without a name.
  docker image prune -f --filter label=org.opencontainers.image.title=joblogs >/dev/null
}

# --- start

# explain: one sentence about the first service that is to blame, with its last words.
explain() {
  local service id state
  for service in passwords rabbitmq elasticsearch initmq setup listener consumer kibana; do
    id=$(ours ps -aq "$service" 2>/dev/null | head -n 1)
    [[ $id ]] || continue
    state=$(docker inspect -f '{{if .State.Health}}{{.State.Status}}, {{.State.Health.Status}}{{else}}{{.State.Status}} with {{.State.ExitCode}}{{end}}' "$id")
    case $state in
      "exited with 0" | "running, healthy" | created*) continue ;;
    esac
    docker logs --tail 5 "$id" >&2 || true
    die "$service did not come up ($state); above are its last lines, 'make logs' has all"
  done
  tail -n 3 "$cache_dir/up.log" >&2
  die "not everything came up; docker/.cache/up.log says why"
}

start() {
  local recreate=()
  # Passwords that changed reach a running service only when it starts anew.
  if ours run --rm --no-deps -T passwords 2>"$cache_dir/passwords.log" | grep -q changed; then
    recreate=(--force-recreate)
  elif ((PIPESTATUS[0])); then
    grep '^error' "$cache_dir/passwords.log" >&2 || tail -n 3 "$cache_dir/passwords.log" >&2
    die "the passwords could not be made"
  fi
  say "starting: $services"
  # shellcheck disable=SC2086 # the services are words
  timeout 600 docker/compose.sh "${files[@]}" --progress plain up -d --wait --wait-timeout 420 \
    --remove-orphans "${recreate[@]}" $services >"$cache_dir/up.log" 2>&1 </dev/null || explain
}

describe() {
  local listener
  listener="http://$HOSTNAME:$(port_of LISTENER_PORT)/"
  if [[ $services == *kibana* ]]; then
    echo "Kibana         http://localhost:$(port_of KIBANA_PORT)/         user elastic, password: make passwords"
  else
    echo "Kibana         left out: no registry gives its image, and it is in no package"
  fi
  cat <<END
Elasticsearch  http://localhost:$(port_of ELASTICSEARCH_PORT)/         user elastic, password: make passwords
RabbitMQ       http://localhost:$(port_of RABBITMQ_MANAGEMENT_PORT)/        user admin, password: make passwords
Listener       $listener   (its calls: ${listener}docs)

In .gitlab-ci.yml, with a token of scope read_api in the CI/CD variable JOBLOGS_TOKEN:

  default:
    after_script:
      - >-
        curl -fsS -m 5 --retry 2 --get -H "PRIVATE-TOKEN: \$JOBLOGS_TOKEN"
        --data-urlencode "project_id=\$CI_PROJECT_ID" --data-urlencode "project_name=\$CI_PROJECT_NAME"
        --data-urlencode "job_id=\$CI_JOB_ID" --data-urlencode "job_name=\$CI_JOB_NAME"
        --data-urlencode "runner_id=\$CI_RUNNER_ID" "$listener" || true
END
}

docker/bootstrap.sh
docker/images.sh programs
read_config
check_ports
check_memory
check_map_count
check_volumes
build_image
start
if [[ $what == demo ]]; then
  say "running the sample jobs"
  ours run --rm --no-deps --use-aliases -T demo
  say "listener and consumer now look to the simulated GitLab; 'make up' turns them to yours"
else
  describe
fi
