#!/usr/bin/env bash
# walk.sh PROGRAM: gives gdb the commands of the walk in docs/cuda_without_gpu.md, and looks for each
# line of output that stands there, in order. Addresses and folders may differ. 77: there is no gdb.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v gdb >/dev/null || { echo "no gdb: the walk is left out"; exit 77; }

# One space for several; addresses and what leads to cuda/ left out.
normalise() { sed -E 's/0x[0-9a-f]+(\.\.\.)?/0x/g; s#[^ "]*/cuda/#cuda/#g; s/[ \t]+/ /g; s/^ //'; }

walk=$(sed -n '/^## A walk/,/^## What is caught/s/^    //p' docs/cuda_without_gpu.md)
commands=$(mktemp) output=$(mktemp)
trap 'rm -f "$commands" "$output"' EXIT
sed -n 's/^(gdb) //p' <<<"$walk" >"$commands"
gdb -nx -batch -iex 'set pagination off' -iex 'set debuginfod enabled off' -x "$commands" "$1" \
  >"$output" 2>&1 || true
if grep -qi 'ptrace' "$output"; then
  echo "gdb may not trace programs here: the walk is left out"
  exit 77
fi
normalise <"$output" >"$output.normal"
mv "$output.normal" "$output"

at=1
while IFS= read -r line; do
  found=$(tail -n +"$at" "$output" | grep -nFx -m 1 -- "$line" | cut -d: -f1) || true
  if [ -z "$found" ]; then
    printf 'gdb did not say: %s\nbut, from there on:\n' "$line"
    tail -n +"$at" "$output"
    exit 1
  fi
  at=$((at + found))
done < <(grep -vE '^(\(gdb\) |gdb |\.\.\.)' <<<"$walk" | normalise)
