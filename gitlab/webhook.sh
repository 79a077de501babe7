#!/bin/sh
# Sets the webhook up by which GitLab tells Joblogs of the jobs of a project or a group. A webhook with the
# listener's URL that is there is changed, so it may be run as often as one likes.
{ set +x; } 2>/dev/null # a trace would show secrets
set -eu

usage="usage: gitlab/webhook.sh project|group ID_OR_PATH, with these variables:
  GITLAB_URL                  the GitLab; https://gitlab.com by default
  GITLAB_TOKEN[_FILE]         a token of scope api, of a Maintainer of the project or an Owner of the group
  JOBLOGS_URL                 the listener, as GitLab reaches it
  JOBLOGS_WEBHOOK_SECRET[_FILE]  the listener's secret; of several lines the first. whsec_... is a signing token
  JOBLOGS_VERIFY_SSL          false: GitLab does not check the listener's certificate
It needs curl and jq."

# What a call of GitLab's may take.
patience=20
# GitLab's largest page, and how many of them are looked through.
page_size=100
most_pages=100

die() {
  printf 'webhook.sh: %s\n' "$1" >&2
  exit 1
}

# secret NAME: the first line of the variable, or of the file that NAME_FILE names.
secret() {
  eval "value=\${$1-} file=\${$1_FILE-}"
  if [ -z "$value" ] && [ -n "$file" ]; then
    [ -r "$file" ] || die "the file of $1_FILE can't be read"
    IFS= read -r value <"$file" || [ -n "$value" ] || die "the file of $1_FILE is empty"
  fi
  [ -n "$value" ] || die "$1 is missing: give it, or the path of a file that holds it ($1_FILE)"
  printf '%s\n' "$value" | head -n 1
}

is_url() {
  case $1 in
    (*[[:space:]\"\\]*) false ;;
    (http://?* | https://?*) ;;
    (*) false ;;
  esac
}

# call METHOD PATH [BODY]: puts the answer into $answer, or says in one sentence why there is none.
# Token and body go through a pipe, as everybody on the machine may read a command line.
call() {
  set -- "$1" "$2" "${3-}"
  answer=$(
    GITLAB_TOKEN=$token BODY=$3 jq -nr '
      ("PRIVATE-TOKEN: " + env.GITLAB_TOKEN | "header = \(tojson)"),
      (env.BODY | select(. != "") | "header = \"Content-Type: application/json\"\ndata = \(tojson)")' |
      curl -q -sS -m "$patience" -K - -X "$1" -w '\n%{http_code}' "$gitlab/api/v4/$2" 2>&1
  ) || die "$gitlab can't be asked: $(printf '%s\n' "$answer" | sed -n 's/^curl: //p')"
  status=$(printf '%s\n' "$answer" | tail -n 1)
  answer=$(printf '%s\n' "$answer" | sed '$d')
  message=$(printf '%s' "$answer" | jq -r '.message? // .error? // empty | if type == "string" then . else tojson end' 2>/dev/null) ||
    message=
  case $status in
    (2??) ;;
    (401) die "GitLab refuses the token of GITLAB_TOKEN" ;;
    (403) die "the token may not change webhooks of $kind $name: it needs the scope api, and its owner the role $role" ;;
    (404) die "there is no $kind $name that the token's owner may see, or this GitLab has no webhooks of a $kind" ;;
    (400 | 422) die "GitLab does not take the webhook: ${message:-status $status}" ;;
    (3??) die "$gitlab leads elsewhere; give GITLAB_URL as it is in the end" ;;
    (*) die "$gitlab answers with status $status; try again later" ;;
  esac
  [ "$status" = 204 ] || printf '%s' "$answer" | jq -e . >/dev/null 2>&1 ||
    die "what answers at $gitlab is no GitLab: it sends no JSON"
}

# The ids of the webhooks with our URL, one a line.
find_hooks() {
  found=
  page=1
  while [ "$page" -le "$most_pages" ]; do
    call GET "$hooks?per_page=$page_size&page=$page"
    [ "$(printf '%s' "$answer" | jq length)" -gt 0 ] || return 0
    ids=$(printf '%s' "$answer" | jq -r --arg url "$url" '.[] | select(.url == $url) | .id')
    found="$found$ids "
    page=$((page + 1))
  done
  die "$kind $name has too many webhooks to look through"
}

case "${1-} $#" in
  ("project 2") kind=project role=Maintainer ;;
  ("group 2") kind=group role=Owner ;;
  (*)
    printf '%s\n' "$usage" >&2
    exit 2
    ;;
esac
name=$2
for program in curl jq; do
  command -v $program >/dev/null || die "$program is missing; install it"
done
gitlab=${GITLAB_URL:-https://gitlab.com}
gitlab=${gitlab%/}
is_url "$gitlab" || die "GITLAB_URL is no http or https URL"
url=${JOBLOGS_URL:-}
is_url "$url" || die "JOBLOGS_URL is missing, or no http or https URL"
url=${url%/}/v1/webhooks/gitlab
verify=${JOBLOGS_VERIFY_SSL:-true}
case $verify in (true | false) ;; (*) die "JOBLOGS_VERIFY_SSL is neither true nor false" ;; esac
token=$(secret GITLAB_TOKEN)
shared=$(secret JOBLOGS_WEBHOOK_SECRET)
hooks=${kind}s/$(jq -nr --arg name "$name" '$name | @uri')/hooks

case $shared in (whsec_*) field=signing_token ;; (*) field=token ;; esac
body=$(SECRET=$shared jq -nc --arg url "$url" --arg field "$field" --argjson verify "$verify" \
  '{url: $url, job_events: true, push_events: false, enable_ssl_verification: $verify, ($field): env.SECRET}')

find_hooks
# shellcheck disable=SC2086 # ids are words
set -- $found
case $# in
  (0)
    call POST "$hooks" "$body"
    id=$(printf '%s' "$answer" | jq -r .id)
    done=added
    ;;
  (1)
    id=$1
    call PUT "$hooks/$id" "$body"
    done=updated
    ;;
  (*) die "$kind $name has $# webhooks with the URL $url ($*); remove all but one of them" ;;
esac

signs=$(printf '%s' "$answer" | jq -r '.signing_token_present // false')
if [ "$field" = signing_token ] && [ "$signs" != true ]; then
  # One without a secret would be refused by the listener at every job.
  [ $done = updated ] || call DELETE "$hooks/$id"
  die "this GitLab knows no signing tokens, which came with 19.0; give a secret that does not begin with whsec_"
fi
if [ "$field" = token ] && [ "$signs" = true ]; then
  die "webhook $id of $kind $name has a signing token, which counts alone; remove it in GitLab, or give it as the secret"
fi
printf 'webhook %s of %s %s %s: GitLab tells %s of its jobs\n' "$id" "$kind" "$name" $done "$url"
