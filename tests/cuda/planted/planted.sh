#!/usr/bin/env bash
# planted.sh PLAIN ASAN TSAN: runs every mistake of planted.cu, in the build and the setting that must
# notice it, and holds the report to the table's words and to the line that planted.cu marks. The same
# kernel without the mistake must pass in every build.
set -uo pipefail
cd "$(dirname "$0")/../../.." || exit 2
source=tests/cuda/planted/planted.cu
declare -A program=([plain]=$1 [asan]=$2 [tsan]=$3)
failures=0

fail() { failures=$((failures + 1)); printf 'FAILED: %s\n' "$*"; }

# "planted.cu:50", where the line says `reported: $1`.
marked() { printf 'planted.cu:%s' "$(grep -n "reported: $1\$" $source | cut -d: -f1)"; }

# noticed NAME BUILD SETTING WORDS...: each of the words is in the report.
noticed() {
  local name=$1 build=$2 setting=$3 report words
  shift 3
  report=$(env "$setting" "${program[$build]}" "$name" wrong 2>&1) &&
    fail "$name $setting passes ($build)"
  for words in "$@"; do
    [[ $report == *"$words"* ]] || fail "$name ($build): no '$words' in: $report"
  done
}

# depends NAME: what it prints, or whether it passes, depends on the order of threads and blocks.
depends() {
  local order outcomes
  outcomes=$(for order in forward reverse shuffle; do
    EMU_ORDER=$order "${program[plain]}" "$1" wrong 2>&1
  done | sort -u)
  [ "$(wc -l <<<"$outcomes")" -gt 1 ] || fail "$1: three orders give the same: $outcomes"
}

# The ten that are most likely.
noticed tail asan EMU_DEFER=0 "AddressSanitizer: heap-buffer-overflow" "$(marked tail)"
noticed barrier tsan EMU_DEFER=0 "ThreadSanitizer: data race" "$(marked barrier)"
depends barrier
noticed pipeline plain EMU_DEFER=0 "wrong values: element 0 is" "nan, not 1"
noticed edge plain EMU_DEFER=0 "wrong values"
noticed early_return plain EMU_DEFER=0 "14 of 64 threads have ended, the others wait in vain" \
  "50 in __syncthreads at" "$(marked return), the first is thread (0, 0, 0)" \
  "unspecified launch failure"
noticed frozen plain EMU_DEFER=0 "wrong values: element 0 is 94, not 98.0312"
noticed host_access plain EMU_DEFER=0 "by host code: device memory is closed to it"
noticed host_access asan EMU_DEFER=0 "AddressSanitizer: use-after-poison" "$(marked host)"
noticed reuse plain EMU_DEFER=1 "wrong values: element 0 is 2, not 1"
depends arrival
grep -rnE 'atomic(Add|CAS|Exch)' cuda && fail "an atomic operation in cuda/"
noticed unasked plain EMU_DEFER=0 "invalid configuration argument"
noticed grid plain EMU_DEFER=0 "invalid configuration argument"
noticed overflow asan EMU_DEFER=0 "signed integer overflow" "$(marked overflow)"

# And more.
noticed divergent plain EMU_DEFER=0 "divergent __syncthreads at" "$(marked divergent)" \
  "other threads wait in __syncthreads at" "$(marked 'divergent, here first')"
noticed half_warp plain EMU_DEFER=0 "divergent warp" "$(marked half)" "$(marked 'half, here too')"
noticed shuffle_as_barrier tsan EMU_DEFER=0 "ThreadSanitizer: data race" "$(marked shuffle)"
noticed misaligned asan EMU_DEFER=0 "misaligned address" "$(marked misaligned)"
noticed misaligned_copy plain EMU_DEFER=0 "cp_async16 at" "$(marked copy): an address is not aligned"
noticed beyond_shared asan EMU_DEFER=0 "AddressSanitizer: heap-buffer-overflow" "$(marked shared)"
noticed unwritten plain EMU_DEFER=0 "wrong values: element 7 is" "nan, not 8"
noticed other_device plain EMU_DEFER=0 "by block (0, 0, 0), thread (0, 0, 0): it is another device's memory"
noticed other_device asan EMU_DEFER=0 "AddressSanitizer: use-after-poison" "$(marked device)"
depends blocks
depends stale_static
noticed stale_dynamic plain EMU_DEFER=0 "wrong values: element 0 is nan, not 1"

# The reports in the documentation name lines that exist.
for mark in return divergent 'divergent, here first' barrier tail misaligned copy; do
  grep -qF "$(marked "$mark")" docs/cuda_without_gpu.md || fail "docs: no $(marked "$mark") ($mark)"
done

names=$("${program[plain]}" 2>&1 | tail -n +2)
for name in $names; do
  for setting in "plain forward" "plain reverse" "plain shuffle" "asan reverse" "tsan shuffle"; do
    read -r build order <<<"$setting"
    report=$(EMU_DEFER=1 EMU_ORDER=$order "${program[$build]}" "$name" right 2>&1) ||
      fail "$name without the mistake ($build, $order): $report"
  done
done
bits=$(for order in forward reverse shuffle; do
  EMU_ORDER=$order "${program[plain]}" arrival right
done | sort -u)
[ "$(wc -l <<<"$bits")" = 1 ] || fail "arrival: a sum in order has other bits: $bits"
printf '%s mistakes planted, %s outcomes unlike the table\n' "$(wc -w <<<"$names")" "$failures"
exit $((failures > 0))
