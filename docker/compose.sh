#!/usr/bin/env bash
# `docker compose` as `make` calls it, with the images that docker/images.sh chose: for the installation
# (compose.sh up ARGUMENT...), or for the demo beside it (compose.sh demo ARGUMENT...).
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root_dir"
compose "$@"
