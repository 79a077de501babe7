#!/usr/bin/env bash
# `docker compose` as the Makefile calls it: with the images that docker/images.sh chose.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"
compose "$@"
