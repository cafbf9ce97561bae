#!/usr/bin/env bash
# The first run on a GPU: what no machine without one can say, in ten minutes at most. Every step has
# a time limit; after a failure the next one goes on. $OUT/on_gpu.txt has all that they print, and
# ends with a line for each.
#
#   OUT=results tests/on_gpu.sh [BUILD]         a build with CHALK_CUDA=ON [build/release], of the targets
#                                            cuda_benchmark, cuda_tests, cuda_language_tests
#   OUT=results tests/on_gpu.sh --try [BUILD]   the same steps where no GPU is, at the smallest sizes:
#                                            cuda_on_cpu_benchmark, cuda_on_cpu_tests, language_on_cpu,
#                                            fragment_on_cpu
#
# PYTHON names a Python, which may have PyTorch [python3].
set -uo pipefail
trying=
if [ "${1:-}" = --try ]; then
  trying=--try
  shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
build=$(cd "${1:-build/release}" && pwd) || exit 2
mkdir -p "${OUT:=gpu}" && out=$(cd "$OUT" && pwd) || exit 2
export GOMP_SPINCOUNT=1000

if [ -z "$trying" ]; then
  benchmark=$build/cuda_benchmark tests=$build/cuda_tests
  language=("$build/cuda_language_tests") sources='*/tests/cuda/*,*/operations_test.cpp'
  sources+=',*/fused_operations_test.cpp,*/layers_test.cpp,*/optim_test.cpp,*/property_test.cpp'
  step_options=(--rounds 3 --batch 32 --batch 256 --rung tensor)
  kernel_options=(--batch 32 --rung tensor --rung patch) image='32 224' steps=200
  losses_options=(--batch 8 --size 112) # the CPU takes part
else
  benchmark=$build/cuda_on_cpu_benchmark tests=$build/cuda_on_cpu_tests
  language=("$build/language_on_cpu" "$build/fragment_on_cpu") sources='*/captured_step_test.cpp'
  step_options=(--try) kernel_options=(--try) losses_options=(--try)
  image='1 81' steps=2
fi
bench() { "${PYTHON:-python3}" tests/benchmark/cuda_bench.py --benchmark "$benchmark" "$@"; }

# step NAME SECONDS COMMAND...: the output to the log, a line here and for the log's end.
log=$out/on_gpu.txt summary=''
step() {
  local name=$1 seconds=$2 start=$SECONDS status=0 result=ok line
  shift 2
  [ -z "$trying" ] || seconds=$((seconds * 10)) # an emulated kernel takes its time
  printf '\n== %s\n' "$name" >>"$log"
  run_limited "$seconds" "$@" >>"$log" 2>&1 || status=$?
  case $status in
    0) ;;
    77) result='left out: this needs a GPU, or a program that is not here' ;;
    124 | 137) result="stopped after $seconds s" ;;
    *) result="failed ($status): $(tail -n 1 "$log")" ;;
  esac
  line=$(printf '%-12s %4d s  %s' "$name" $((SECONDS - start)) "$result")
  echo "$line"
  summary+=$line$'\n'
}

# `timeout` runs programs alone, so functions go to it in a shell of their own.
run_limited() {
  local seconds=$1
  shift
  timeout --kill-after=10 "$seconds" bash -c "$(declare -f); $(declare -p benchmark tests language \
    trying build out image steps); \"\$@\"" shell "$@"
}

run_tests() { # as on a machine without a GPU, without TF32
  CHALK_TF32=0 CHALK_CUDA_POISON=1 CHALK_TRIALS=1000 "$tests" --source-file="$1"
}

run_language() {
  local program
  for program in "${language[@]}"; do
    "$program" || return
  done
}

# A training, twice: the same bits.
repeat_training() {
  local task="losses cuda $image $((steps / 10 + 2))"
  # shellcheck disable=SC2086  # no word where nothing is tried
  "$benchmark" $trying <<<"$task" >"$out/first.json" &&
    "$benchmark" $trying <<<"$task" >"$out/second.json" &&
    cmp "$out/first.json" "$out/second.json" && echo "equal: $(wc -c <"$out/first.json") bytes"
}

# Like racecheck: watches the kernels of some tests, though slowly.
sanitize() { # TOOL
  [ -z "$trying" ] && command -v compute-sanitizer || return 77
  compute-sanitizer --tool "$1" --error-exitcode 1 "${language[@]}" &&
    CHALK_TF32=1 compute-sanitizer --tool "$1" --error-exitcode 1 "$tests" --minimal \
      --test-case='what is not a number*,matrix products on cuda round*,on every rung the*,a recorded*'
}

# Every kernel of one train step: nsys says how long, ncu why.
profile_step() { # TOOL
  [ -z "$trying" ] && command -v "$1" || return 77
  local profile=(nsys profile --trace cuda --stats true --force-overwrite true --output "$out/step")
  [ "$1" = nsys ] || profile=(ncu --clock-control none --launch-skip 900 --launch-count 300 --page
    raw --csv --section SpeedOfLight --section LaunchStats --section MemoryWorkloadAnalysis)
  CHALK_GRAPH=0 "${profile[@]}" "$benchmark" <<<"train $image"
}

: >"$log"
step rates 30 bench "${kernel_options[@]}" --only rates
step language 20 run_language
step tests 40 run_tests "$sources"
step same_bits 20 repeat_training
step memcheck 30 sanitize memcheck
step racecheck 80 sanitize racecheck
step initcheck 40 sanitize initcheck
step kernels 30 bench "${kernel_options[@]}" --only kernels
step network 220 bench "${step_options[@]}" --only step
step losses 30 bench "${losses_options[@]}" --only losses --steps "$steps"
step nsys 20 profile_step nsys
step ncu 20 profile_step ncu
printf '\n== all steps\n%s' "$summary" >>"$log"
! grep -qE 'failed|stopped' <<<"$summary"
