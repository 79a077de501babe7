#!/bin/bash
# Makes every password once, keeps all of them in /passwords/all, and gives each service its own in its
# own volume, so that no service can read another's. What the operator gives wins, and is kept:
# a variable (ELASTIC_PASSWORD), or a file named like it in docker/secrets (elastic_password).
# Two are more than their last value: a new seal key goes above the old ones, and a new elastic_password
# is refused until Elasticsearch has it.
#
#   passwords        makes and hands out
#   passwords show   prints them
set -euo pipefail
umask 077

given=/given
all=/passwords/all
changed=
declare -A values
names=(elastic_password elastic_consumer_password elastic_retention_password kibana_password kibana_key
  rabbitmq_admin_password initmq_password listener_password consumer_password seal_key)

die() { echo "error: $*" >&2; exit 1; }

# write FILE MODE: from stdin, at once or not at all.
write() {
  cat >"$1.new"
  chmod "$2" "$1.new"
  mv -f "$1.new" "$1"
}

random_bytes() { head -c "$1" /dev/urandom | base64 -w0; }

# Letters and digits alone, so that they can be pasted anywhere.
random_password() { random_bytes 24 | tr '+/' 'xy'; }

readable() {
  [[ -r $given/$1 ]] || die "docker/secrets/$1 can't be read by user 1000, as whom the container runs: chown 1000 docker/secrets/$1"
}

check() {
  local name=$1 value=$2 key
  if [[ $name == seal_key ]]; then
    while IFS= read -r key; do
      [[ $(base64 -d <<<"$key" 2>/dev/null | wc -c) == 32 ]] || die "seal_key: each line must be the base64 of 32 bytes"
    done <<<"$value"
  elif [[ ! $value =~ ^[^[:space:]\"\'\\]{8,}$ ]]; then
    die "$name must have 8 or more characters, and neither blanks, quotes nor backslashes"
  elif [[ $name == kibana_key ]] && ((${#value} < 32)); then
    die "kibana_key must have 32 or more characters"
  elif [[ $name == kibana_* && $value == *"\${"* ]]; then
    die "$name must not contain \${, which Kibana takes for a variable"
  fi
}

# A password of Elasticsearch's user lives in its volume; one from here reaches it only when that is new.
refuse_unknown_to_elasticsearch() {
  [[ ${ELASTIC_PASSWORD_IN_USE-} == yes ]] ||
    die "elastic_password is not the one kept since the first start, and Elasticsearch would not learn it from here:" \
      "take it back; or, while Elasticsearch runs, set it there (docker compose exec elasticsearch" \
      "bin/elasticsearch-reset-password -u elastic -i) and then say so once (ELASTIC_PASSWORD_IN_USE=yes make up);" \
      "or begin anew without the data (make clean)"
}

# with_old_keys NEW OLD: tokens that wait in RabbitMQ still open, for the first line seals and all open. Three
# old ones are enough: a sealed token lives for days.
with_old_keys() {
  echo "$1"
  grep -vxF "$1" <<<"$2" | head -n 3 || true # grep: there may be none
}

# decide NAME: sets values[NAME], and changed if it is another than before.
decide() {
  local name=$1 variable=${1^^} value old=
  if [[ -s $all/$name ]]; then old=$(<"$all/$name"); fi
  if [[ -n ${!variable-} ]]; then
    value=${!variable}
  elif [[ -e $given/$name ]]; then
    readable "$name"
    value=$(<"$given/$name")
  elif [[ $old ]]; then
    value=$old
  elif [[ $name == seal_key ]]; then
    value=$(random_bytes 32)
  else
    value=$(random_password)
  fi
  check "$name" "$value"
  if [[ $old && $name == seal_key ]]; then value=$(with_old_keys "$value" "$old"); fi
  if [[ $old && $value != "$old" ]]; then
    if [[ $name == elastic_password ]]; then refuse_unknown_to_elasticsearch; fi
    changed=yes
  fi
  values[$name]=$value
}

# hand NAME TO FILE
hand() { write "/passwords/$2/$3" 400 <"$all/$1"; }

# shellcheck disable=SC2001 # bash has no & in a replacement of old
bytes_of_hex() { printf '%b' "$(sed 's/../\\x&/g' <<<"$1")"; }

# RabbitMQ's own hash: base64(salt, sha256(salt, password)).
rabbitmq_hash() {
  local salt sum
  salt=$(head -c 4 /dev/urandom | od -An -tx1 | tr -d ' \n')
  sum=$({ bytes_of_hex "$salt"; tr -d '\n' <"$all/$1"; } | sha256sum | cut -d' ' -f1)
  bytes_of_hex "$salt$sum" | base64 -w0
}

user() {
  printf '{"name":"%s","password_hash":"%s","hashing_algorithm":"rabbit_password_hashing_sha256","tags":"%s"}' \
    "$1" "$(rabbitmq_hash "$2")" "${3-}"
}

# may USER CONFIGURE WRITE READ: patterns of what it may create, publish to and read from.
# "amq.default" is the nameless exchange, by which a message goes straight into a queue.
may() {
  printf '{"user":"%s","vhost":"my_vhost","configure":"%s","write":"%s","read":"%s"}' "$@"
}

definitions() {
  local ours='gitlab_jobs|healthcheck|jobs(\\..+)?'
  printf '{"vhosts":[{"name":"my_vhost"}],\n"users":[%s,\n%s,\n%s,\n%s],\n"permissions":[%s,\n%s,\n%s,\n%s]}\n' \
    "$(user admin rabbitmq_admin_password administrator)" "$(user initmq initmq_password)" \
    "$(user listener listener_password)" "$(user consumer consumer_password)" \
    "$(may admin '.*' '.*' '.*')" "$(may initmq "^($ours)\$" "^($ours|amq\\\\.default)\$" "^($ours)\$")" \
    "$(may listener '^$' '^gitlab_jobs$' '^$')" \
    "$(may consumer '^$' '^(gitlab_jobs|amq\\.default)$' '^jobs(\\.dead)?$')"
}

# elastic_files FOLDER: users with their passwords and roles, for an Elasticsearch that has them in files.
elastic_files() {
  local index=${JOBLOGS_ES_INDEX:-joblogs} service
  rm -rf "$1/users" # of another name, or of earlier versions
  mkdir -p "$1/users"
  for service in consumer retention; do
    write "$1/users/joblogs-$index-$service" 400 <"$all/elastic_${service}_password"
    echo "joblogs-$index-$service:joblogs-$index-$service"
  done | write "$1/users_roles" 400
  consumer setup --print-roles --es-index "$index" >"$1/roles.yml.new"
  if [[ -e $1/roles.yml ]] && ! cmp -s "$1/roles.yml.new" "$1/roles.yml"; then changed=yes; fi
  mv -f "$1/roles.yml.new" "$1/roles.yml"
}

case ${1-} in
  show)
    [[ -s $all/seal_key ]] || die "there are no passwords yet: 'make up' makes them"
    # Of several seal keys each has its line.
    for name in "${names[@]}"; do sed "s/^/$(printf '%-27s ' "$name")/" "$all/$name"; done
    exit
    ;;
  "") ;;
  *) die "usage: passwords [show]" ;;
esac

# All are decided before any is written: a refusal leaves everything as it was.
for name in "${names[@]}"; do decide "$name"; done
for name in "${names[@]}"; do write "$all/$name" 400 <<<"${values[$name]}"; done

definitions | write /passwords/rabbitmq/definitions.json 444
# A write-ahead log of 64 MB suffices here; RabbitMQ's 512 MB would want 2 GB of memory.
printf '%s\n' 'load_definitions = /secrets/definitions.json' 'raft.wal_max_size_bytes = 64000000' |
  write /passwords/rabbitmq/rabbitmq.conf 444
hand elastic_password elasticsearch elastic-password
elastic_files /passwords/elasticsearch
# Over Kibana's own kibana.yml: what its image takes by variables ends on its command line, for all to read.
write /passwords/kibana/kibana.yml 400 <<END
elasticsearch.password: '${values[kibana_password]}'
xpack.encryptedSavedObjects.encryptionKey: '${values[kibana_key]}'
END
rm -f /passwords/kibana/kibana-password /passwords/kibana/kibana-key # of earlier versions
hand initmq_password initmq rabbitmq-password
hand listener_password listener rabbitmq-password
hand seal_key listener seal-key
hand consumer_password consumer rabbitmq-password
hand elastic_consumer_password consumer elasticsearch-password
hand seal_key consumer seal-key
rm -f /passwords/consumer/elastic-password /passwords/consumer/kibana-password # of earlier versions
hand elastic_retention_password retention elasticsearch-password
hand elastic_password setup elastic-password
hand elastic_consumer_password setup consumer-password
hand elastic_retention_password setup retention-password
hand kibana_password setup kibana-password
# The operator's token for GitLab is optional and never made up.
if [[ -e $given/gitlab_token ]]; then
  readable gitlab_token
  cmp -s "$given/gitlab_token" /passwords/consumer/gitlab-token || changed=yes
  write /passwords/consumer/gitlab-token 400 <"$given/gitlab_token"
elif [[ -e /passwords/consumer/gitlab-token ]]; then
  changed=yes
  rm -f /passwords/consumer/gitlab-token
fi
echo "passwords are in place${changed:+, and changed: restart what uses them (docker compose up -d --force-recreate)}"
