#!/usr/bin/env bash
# Fills the corpus with the real traces and with the inputs of the conformance vectors.
set -euo pipefail
cd "$(dirname "$0")"
corpus=corpus/laws
mkdir -p "$corpus"
cp ../../../tests/traces/*.log "$corpus"

# Every text of the vectors, as it stands and with its backslash notation read: whatever of it is
# no trace, or no such notation, is as good a seed.
number=0
for file in ../tests/vectors/*.json; do
  for text in $(jq -r '.. | strings | select(length > 0) | @base64' "$file"); do
    number=$((number + 1))
    printf '%s' "$text" | base64 -d > "$corpus/vector-$number"
    printf '%b' "$(cat "$corpus/vector-$number")" > "$corpus/vector-$number-read" 2> /dev/null || true
  done
done
