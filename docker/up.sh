#!/usr/bin/env bash
# `make up` and `make demo`: checks what would go wrong, starts everything, says where it is. The demo is an
# installation of its own: neither touches the other, and both may run.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"

what=${1:-up}
if [[ $what == demo ]]; then other=up; else other=demo; fi
project=$(project_of "$what")
ours() { compose "$what" "$@"; }

# --- what is asked for: compose's own view of it, once images.sh has chosen

read_config() {
  local config
  config=$(ours config) || die "compose.yaml, .env or a variable is not as it should be"
  ports=$(ports <<<"$config")
  services=$(ours config --services | grep -v '^demo$' | tr '\n' ' ')
  # An empty name stands for what no registry gave.
  if grep -q '^KIBANA_IMAGE=$' "$cache_dir/images.env"; then services=${services/kibana /}; fi
}

# ports: a line each of "service variable published"; the variable is what moves it. The demo's are free ones.
ports() {
  awk '
    /^  [a-z]+:$/ { service = substr($1, 1, length($1) - 1) }
    /^[a-z]/ { service = "" }
    $1 == "target:" { target = $2 }
    $1 == "published:" { gsub(/"/, ""); variable = toupper(service) (target == 15672 ? "_MANAGEMENT" : "") "_PORT"
                         print service, variable, $2 }'
}

# --- preflight: what would end in a puzzling error later

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
  local service variable port holder free
  while read -r service variable port; do
    [[ $services == *"$service"* ]] || continue
    [[ -z $(containers_of "$what" --filter "publish=$port") ]] || continue
    listens "$port" || continue
    holder=$(docker ps --filter "publish=$port" --format 'the container {{.Names}}')
    free=$((port + 1))
    while listens "$free"; do free=$((free + 1)); done
    die "port $port of $service is taken by ${holder:-another program}: stop it, or choose another by the line $variable=$free in .env"
  done <<<"$ports"
}

# memory_of HEAP: how many MB all needs with it, Elasticsearch taking about half of it again beside it.
memory_of() {
  local heap=$1 need
  if [[ ! $heap ]]; then if [[ $what == demo ]]; then heap=512m; else heap=1g; fi; fi # as compose has it
  [[ ${heap,,} =~ ^([1-9][0-9]*)([mg])$ ]] || die "ELASTICSEARCH_HEAP is to be a size like 512m or 2g"
  need=$((BASH_REMATCH[1] * 3 / 2))
  if [[ ${BASH_REMATCH[2]} == g ]]; then need=$((need * 1024)); fi
  need=$((need + 450))
  if [[ $services == *kibana* ]]; then need=$((need + 1500)); fi
  echo "$need"
}

check_memory() {
  local has need smaller beside=0 elasticsearch way_out="give it more"
  has=$(($(docker info --format '{{.MemTotal}}') / 1000000))
  need=$(memory_of "$(setting ELASTICSEARCH_HEAP)") || exit
  smaller=$(memory_of 512m)
  elasticsearch=$(containers_of $other --filter label=com.docker.compose.service=elasticsearch)
  if [[ $elasticsearch ]]; then
    beside=$(memory_of "$(docker inspect -f '{{json .Config.Env}}' "$elasticsearch" | sed -n 's/.*-Xmx\([0-9a-zA-Z]*\).*/\1/p')")
    way_out+=", or stop what runs beside it: docker compose -p $(project_of $other) stop"
  fi
  if ((smaller < need && smaller + beside <= has)); then
    way_out+=", or take a smaller heap: ELASTICSEARCH_HEAP=512m make $what"
  fi
  ((has >= need + beside)) || die "the Docker engine has $has MB of memory and $((need + beside)) MB are needed: $way_out"
}

# Elasticsearch takes no new index when less than its watermark is left.
check_disk() {
  local where has
  where=$(docker info --format '{{.DockerRootDir}}')
  has=$(df --output=avail -BM "$where" 2>/dev/null | tail -n 1 | tr -dc 0-9) || return 0
  [[ ! $has ]] || ((has >= 4000)) ||
    die "$has MB are left on the disk of $where and 4000 MB are needed: free some ('docker system df' says what Docker takes)"
}

check_map_count() {
  local has
  has=$(cat /proc/sys/vm/max_map_count 2>/dev/null || echo 262144)
  # A single node starts with less, but may run out of it with many indices.
  ((has >= 262144)) ||
    say "note: vm.max_map_count is $has and Elasticsearch wants 262144 for many indices: sysctl -w vm.max_map_count=262144"
}

check_volumes() {
  local volumes given lost
  given=$(setting JOBLOGS_SECRETS)
  volumes=" $(docker volume ls -q --filter "label=com.docker.compose.project=$project" | tr '\n' ' ') "
  [[ $volumes == *" ${project}_elasticsearch "* && $volumes != *" ${project}_passwords "* ]] || return 0
  lost="the volume ${project}_elasticsearch was made with a password that is gone with the volume ${project}_passwords"
  # The demo takes none of the operator's.
  [[ $what != demo ]] || die "$lost: remove what is left of the demo (docker compose -p $project down --volumes)"
  [[ $(setting ELASTIC_PASSWORD) || -e ${given:-docker/secrets}/elastic_password ]] ||
    die "$lost: give it (ELASTIC_PASSWORD=… make up), or begin anew without the data (make clean)"
}

# --- the image of the programs

# choose_builds: sets builds to the services whose image is ours to make, unless the operator names another.
choose_builds() {
  builds=()
  [[ $(setting JOBLOGS_IMAGE) ]] || builds+=(passwords)
  [[ $what != demo || $(setting JOBLOGS_DEMO_IMAGE) ]] || builds+=(demo)
}

build_images() {
  ((${#builds[@]})) || return 0
  local programs
  programs=$(awk -F= '$1 == "JOBLOGS_PROGRAMS" { print $2 }' "$cache_dir/programs.env")
  if [[ $programs == ready ]]; then
    say "compiling the programs with this machine's cargo"
    timeout 3600 cargo build --release --locked --workspace --bins || die "the programs did not compile"
    mkdir -p docker/.programs
    # -C leaves what is the same untouched.
    install -C -t docker/.programs "${CARGO_TARGET_DIR:-target}"/release/{listener,consumer,initmq,demo}
  fi
  say "building the image of the programs (${programs/ready/from ready-made binaries}; log: docker/.cache/image.log)"
  logged image timeout 3600 env DOCKER_BUILDKIT=1 docker/compose.sh "$what" --progress plain build "${builds[@]}" ||
    die "the image could not be built; docker/.cache/image.log says why"
  # The one that it replaces would stay for ever, without a name.
  docker image prune -f --filter label=org.opencontainers.image.title=joblogs >/dev/null
}

# --- start

# explain: one sentence about the first service that is to blame, with its last words.
explain() {
  local service id state
  for service in passwords rabbitmq elasticsearch initmq setup listener consumer retention kibana; do
    id=$(ours ps -aq "$service" 2>/dev/null | head -n 1)
    [[ $id ]] || continue
    state=$(docker inspect -f '{{if .State.Health}}{{.State.Status}}, {{.State.Health.Status}}{{else}}{{.State.Status}} with {{.State.ExitCode}}{{end}}' "$id")
    case $state in
      "exited with 0" | "running, healthy" | "running with 0" | created*) continue ;;
    esac
    docker logs --tail 5 "$id" >&2 || true
    die "$service did not come up ($state); above are its last lines, 'make logs' has all"
  done
  tail -n 3 "$cache_dir/up.log" >&2
  die "not everything came up; docker/.cache/up.log says why"
}

start() {
  local recreate=() answer
  if ! answer=$(ours run --rm --no-deps -T passwords 2>"$cache_dir/passwords.log"); then
    grep '^error' "$cache_dir/passwords.log" >&2 && exit 1
    tail -n 3 "$cache_dir/passwords.log" >&2
    die "the passwords could not be made"
  fi
  # Passwords that changed reach a running service only when it starts anew.
  if [[ $answer == *changed* ]]; then recreate=(--force-recreate); fi
  say "starting $project: $services"
  # shellcheck disable=SC2086 # the services are words
  timeout 600 docker/compose.sh "$what" --progress plain up -d --wait --wait-timeout 420 \
    --remove-orphans "${recreate[@]}" $services >"$cache_dir/up.log" 2>&1 </dev/null || explain
}

# What Kibana shows. All else works without it.
import_objects() {
  [[ $services == *kibana* ]] || return 0
  ours run --rm --no-deps -T kibana-objects ||
    say "note: Kibana has no dashboards and searches yet: docker compose -p $project run --rm kibana-objects"
}

# url HOST SERVICE PORT: where that port of the service is published.
url() {
  local address
  address=$(ours port "$2" "$3")
  echo "http://$1:${address##*:}/"
}

# describe LISTENER: where everything is.
describe() {
  if [[ $services == *kibana* ]]; then
    printf '%-14s %-24s %s\n' Kibana "$(url localhost kibana 5601)" "user elastic, password: make passwords"
  else
    echo "Kibana         left out: no registry gives its image, and it is in no package"
  fi
  printf '%-14s %-24s %s\n' Elasticsearch "$(url localhost elasticsearch 9200)" "user elastic, password: make passwords" \
    RabbitMQ "$(url localhost rabbitmq 15672)" "user admin, password: make passwords" \
    Listener "$1" "its calls: $1docs"
}

snippet() {
  cat <<END

In .gitlab-ci.yml, with a token of scope read_api in the CI/CD variable JOBLOGS_TOKEN:

  default:
    after_script:
      - >-
        curl -fsS -m 5 --retry 2 --get -H "PRIVATE-TOKEN: \$JOBLOGS_TOKEN"
        --data-urlencode "project_id=\$CI_PROJECT_ID" --data-urlencode "project_name=\$CI_PROJECT_NAME"
        --data-urlencode "job_id=\$CI_JOB_ID" --data-urlencode "job_name=\$CI_JOB_NAME"
        --data-urlencode "runner_id=\$CI_RUNNER_ID" "$1" || true
END
}

docker/bootstrap.sh
choose_builds
docker/images.sh ${builds:+programs}
read_config
check_ports
check_memory
check_disk
check_map_count
check_volumes
build_images
start
import_objects
if [[ $what == demo ]]; then
  say "running the sample jobs"
  ours run --rm --no-deps --use-aliases -T demo
  echo
  describe "$(url localhost listener 8080)"
  say "this was the demo, with servers of its own; 'make up' starts Joblogs for your GitLab, 'make down' stops both"
else
  listener=$(url "$HOSTNAME" listener 8080)
  describe "$listener"
  snippet "$listener"
  if [[ $(containers_of demo) ]]; then
    say "the demo still runs beside it: docker compose -p $(project_of demo) down"
  fi
fi
