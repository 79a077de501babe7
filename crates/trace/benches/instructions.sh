#!/usr/bin/env bash
# Instructions per byte of each adversarial input, and how many times those of plain text they are:
# of everything, and without the hash, which costs every byte the same. (It does so in software
# here: valgrind has no SHA instructions, and 52 per byte would hide what the rest does.)
# Needs valgrind and jq. Arguments, if any, are the inputs to count: names, or paths of traces.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release --example instructions
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
program=$target/release/examples/instructions
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

# Prints both figures of the input $1.
count() {
  valgrind --tool=callgrind --callgrind-out-file="$scratch/out" \
    --toggle-collect='*instructions::measured*' "$program" "$1" > "$scratch/bytes" 2> /dev/null
  callgrind_annotate --threshold=100 "$scratch/out" | awk -v bytes="$(cut -d ' ' -f 1 "$scratch/bytes")" '
    { gsub(",", "", $1) }
    /PROGRAM TOTALS/ { all = $1 }
    /sha2::/ { hash += $1 }
    END { printf "%.2f %.2f\n", all / bytes, (all - hash) / bytes }'
}

read -r plain plain_rest < <(count "plain text")
printf '%14s  %14s\n' everything 'without hash'
while read -r name; do
  read -r all rest < <(count "$name")
  awk -v a="$all" -v r="$rest" -v pa="$plain" -v pr="$plain_rest" -v n="$name" \
    'BEGIN { printf "%7.2f %5.2f x  %7.2f %5.2f x  %s\n", a, a / pa, r, r / pr, n }'
done < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else "$program"; fi)
