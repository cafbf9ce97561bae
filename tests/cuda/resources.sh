#!/usr/bin/env bash
# resources.sh NVCC: compiles the kernels for both generations of GPUs and fails where one spills
# registers to memory. Prints the kernels that have most registers, and most static shared memory.
#
# Shared memory needs no sum: nvcc refuses more than 48 KB of static arrays, the emulator more than 99
# KB at run time, and sm_80 has 163 KB for a block.
set -euo pipefail
cd "$(dirname "$0")/../.."
export nvcc=$1

usage() {
  "$nvcc" -std=c++20 -I. --expt-relaxed-constexpr -O3 -Xptxas -v -c "$1" -o /dev/null \
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 2>&1
}
export -f usage

# shellcheck disable=SC2016  # $0 is the inner shell's
# "registers shared-memory spilled-bytes architecture kernel" for each kernel.
table=$(find cuda -maxdepth 1 -name '*.cu' -print0 | xargs -0 -n 1 -P "$(nproc)" bash -c 'usage "$0"' |
  awk '
    /Compiling entry function/ { split($0, part, "'\''"); kernel = part[2]; arch = part[4] }
    /spill stores/ { spilled = $5 + $9 }
    /Used [0-9]+ registers/ {
      shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
      match($0, /Used [0-9]+/)
      print substr($0, RSTART + 5, RLENGTH - 5), shared, spilled, arch, kernel
    }' | c++filt -p | sort -rn)
printf '%s kernels; registers, bytes of static shared memory, bytes spilled:\n' "$(wc -l <<<"$table")"
head -5 <<<"$table"
if spilling=$(awk '$3 > 0' <<<"$table") && [ -n "$spilling" ]; then
  printf 'spilled registers:\n%s\n' "$spilling"
  exit 1
fi
[ "$(wc -l <<<"$table")" -gt 10 ]  # else nvcc has said nothing
