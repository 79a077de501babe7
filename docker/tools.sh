#!/usr/bin/env bash
# What tests run beside our own programs: what jobs have in their images, and what operators have on their machines.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

missing=()
for tool in busybox curl jq; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
[[ ${#missing[@]} == 0 ]] || install_packages "what tests run" "${missing[@]}"
