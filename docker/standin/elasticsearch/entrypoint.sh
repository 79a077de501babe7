#!/bin/bash
# Takes the environment as the official image does: a.b=c is a setting, ELASTIC_PASSWORD the first password.
# In bash, because dash drops environment variables with a dot in their name.
set -euo pipefail

if [[ -n ${ELASTIC_PASSWORD_FILE-} ]]; then
  [[ -z ${ELASTIC_PASSWORD-} ]] || { echo "error: both ELASTIC_PASSWORD and ELASTIC_PASSWORD_FILE are set" >&2; exit 1; }
  mode=$(stat -L -c %a "$ELASTIC_PASSWORD_FILE")
  [[ $mode == 400 || $mode == 600 ]] || { echo "error: $ELASTIC_PASSWORD_FILE must have mode 400 or 600" >&2; exit 1; }
  ELASTIC_PASSWORD=$(<"$ELASTIC_PASSWORD_FILE")
fi
if [[ -n ${ELASTIC_PASSWORD-} ]]; then
  printf '%s' "$ELASTIC_PASSWORD" | elasticsearch-keystore add -f -x bootstrap.password
fi
# This core keeps no users of its own: those that lie beside the first password go into its files.
secrets=$(dirname "${ELASTIC_PASSWORD_FILE:-/secrets/none}")
if [[ -e $secrets/roles.yml ]]; then
  cp "$secrets/roles.yml" config/
  : >config/users
  for user in "$secrets"/users/*; do
    elasticsearch-users useradd "${user##*/}" < <(cat "$user" "$user")
  done
  cp "$secrets/users_roles" config/
fi
unset ELASTIC_PASSWORD ELASTIC_PASSWORD_FILE

settings=()
while IFS= read -r -d '' variable; do
  if [[ $variable =~ ^[a-z0-9_]+\.[a-z0-9_.]+= ]]; then settings+=("-E$variable"); fi
done < <(printenv -0)

exec elasticsearch "${settings[@]}" "$@"
