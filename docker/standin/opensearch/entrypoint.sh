#!/bin/bash
# Takes the environment as the official image does: a.b=c is a setting, OPENSEARCH_JAVA_OPTS are options for Java.
# In bash, because dash drops environment variables with a dot in their name.
set -euo pipefail

home=/usr/share/opensearch
{
  echo "network.host: 0.0.0.0"
  while IFS= read -r -d '' variable; do
    if [[ $variable =~ ^[a-z0-9_]+\.[a-z0-9_.]+= ]]; then printf "%s: '%s'\n" "${variable%%=*}" "${variable#*=}"; fi
  done < <(printenv -0)
} >$home/config/opensearch.yml

# The runner adds the number of its node, 1, to the base port.
# shellcheck disable=SC2086 # the options are words
exec java -Xms600m -Xmx600m ${OPENSEARCH_JAVA_OPTS-} -cp "$home/lib/*" org.codelibs.opensearch.runner.OpenSearchRunner \
  -clusterName docker-cluster -numOfNode 1 -baseHttpPort 9199 \
  -basePath $home -confPath $home/config -dataPath $home/data -useLogger
