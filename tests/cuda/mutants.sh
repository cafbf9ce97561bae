#!/usr/bin/env bash
# Leaves out each barrier and each wait of the kernels in turn, and says which check notices: a test
# that fails in one of three orders of threads and blocks, or ThreadSanitizer. Fails where none does.
#
#   mutants.sh copy FOLDER           writes there those files of cuda/ that have barriers or waits, so
#                                    that each can be left out (mutants.h); lists them in FOLDER/sites
#   mutants.sh PLAIN TSAN FOLDER     runs the tests, which are linked with those copies
#
# Both programs are compiled once. Which test reaches which barrier is seen by running them all; then
# every barrier is tried with its tests, the quickest first.
set -euo pipefail
cd "$(dirname "$0")/../.."

calls='(__syncthreads|__syncwarp|cp_async_wait<.*>)\(.*\);'

copy() {
  local folder=$1 file site=0
  mkdir -p "$folder/cuda"
  : >"$folder/sites.new"
  if grep -nE "$calls" cuda/*.cu cuda/*.cuh | grep -vE "[0-9]: *($calls|//)"; then
    echo "^ a barrier or wait that does not begin its line"
    exit 1
  fi
  while read -r file; do
    awk -v calls="^ *$calls" -v site="$site" -v file="$file" -v sites="$folder/sites.new" '
      $0 ~ calls {
        statement = $0
        sub(/^ */, "", statement)
        print site " " file ":" NR " " statement >>sites
        sub(/[^ ]/, "if (chalk::cuda::keeps(" site++ ")) &")
      }
      { print }' "$file" | cat <(echo '#include "tests/cuda/mutants.h"') - >"$folder/$file"
    site=$(wc -l <"$folder/sites.new")
  done < <(grep -lE "^ *$calls" cuda/*.cu cuda/*.cuh)
  mv "$folder/sites.new" "$folder/sites"
}

export CHALK_TF32=0 CHALK_CUDA_POISON=1 CHALK_TRIALS=100 GOMP_SPINCOUNT=1000
# The tests that may reach a kernel; not the whole network, which takes long.
files='*/operations_test.cpp,*/fused_operations_test.cpp,*/layers_test.cpp,*/optim_test.cpp'
files+=',*/property_test.cpp,*/tests/cuda/*'

# run SECONDS PROGRAM NAME: that test case; to be late is not to fail. In a filter, a comma would begin
# another one.
run() {
  local status=0
  timeout "$1" "$2" --minimal --test-case="${3//,/?}" >/dev/null 2>&1 || status=$?
  [ "$status" = 0 ] || [ "$status" = 124 ]
}

# Writes "milliseconds name" of each test case that reaches a site to reached/SITE.
find_tests() {
  local name order start
  rm -rf "$folder/reached"
  mkdir "$folder/reached"
  while read -r name; do
    start=$(date +%s%N)
    rm -f "$folder/seen"
    for order in shuffle reverse forward; do
      CHALK_MUTANT_SEEN=$folder/seen EMU_ORDER=$order run 600 "$plain" "$name" ||
        { echo "fails with all barriers in order $order: $name"; exit 1; }
    done
    [ ! -f "$folder/seen" ] && continue
    while read -r site; do
      echo "$((($(date +%s%N) - start) / 1000000)) $name" >>"$folder/reached/$site"
    done <"$folder/seen"
  done < <("$plain" --list-test-cases --source-file="$files" \
    --source-file-exclude='*/network_test.cpp' | grep -vE '^(\[doctest\]|=+$)')
}

# try SITE: "noticed ..." or "NOT NOTICED".
try() {
  local order name reached=$folder/reached/$1
  export CHALK_MUTANT=$1
  [ -f "$reached" ] || { echo "NOT NOTICED, no test reaches it"; return; }
  while read -r _ name; do
    for order in forward reverse shuffle; do
      EMU_ORDER=$order run 100 "$plain" "$name" || { echo "noticed in order $order by: $name"; return; }
    done
  done < <(sort -n "$reached")
  while read -r _ name; do
    run 600 "$tsan" "$name" && continue
    CHALK_MUTANT=-1 run 600 "$tsan" "$name" ||
      { echo "NOT NOTICED, fails with all barriers under ThreadSanitizer: $name"; return; }
    echo "noticed by ThreadSanitizer in: $name"
    return
  done < <(sort -n "$reached")
  echo "NOT NOTICED"
}

case $1 in
  copy) copy "$2" ;;
  try)
    plain=$2 tsan=$3 folder=$4
    printf '%s: %s\n' "$6" "$(try "$5")"
    ;;
  *)
    plain=$1 tsan=$2 folder=$3
    find_tests
    sed -E 's/^([0-9]+) (.*)/\1\n\2/' "$folder/sites" | tr '\n' '\0' |
      xargs -0 -n 2 -P "$(nproc)" "$0" try "$plain" "$tsan" "$folder" | tee "$folder/report"
    if grep -q 'NOT NOTICED' "$folder/report"; then exit 1; fi
    ;;
esac
