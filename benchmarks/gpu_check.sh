#!/usr/bin/env bash
# On a machine with a GPU and without a network: build for its card, the whole suite, compute-sanitizer, benchmarks.
# Needs Python with torch, CuPy, pytest, hypothesis, scikit-build-core, pybind11, cmake and ninja; prints a summary last.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
where=build/gpu
export PYTHONPATH=$PWD/$where PYTHONUNBUFFERED=1 PATH=$PATH:/usr/local/cuda/bin
summary=() failed=0

step() {  # name, seconds, command...
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  printf '\n== %s\n' "$name"
  timeout --signal INT --kill-after 10 "$limit" "$@"  # pytest, interrupted, still writes what it has
  status=$?
  [ "$status" -eq 0 ] || failed=1
  summary+=("$(printf '%-34s %4d s  %s' "$name" $((SECONDS - start)) "$([ "$status" -eq 0 ] && echo passed || echo "FAILED ($status)")")")
}

build() {
  rm -rf "$where"
  NMFUSE_CUDA=ON CUDAARCHS=native "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-build-isolation \
    --no-deps --no-index --target "$where" . && "$PYTHON" -m nmfuse.cli info
}

sanitizer() { compute-sanitizer --tool "$1" --report-api-errors no --error-exitcode 1 "$PYTHON" benchmarks/sanitize.py; }

card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr -cs 'A-Za-z0-9\n' '-')
results=benchmarks/results/${card:-unknown}-$(date +%F).json
export -f build sanitizer
export PYTHON where

step "build for ${card:-?}" 150 bash -c build
step "tests on cuda" 120 "$PYTHON" -m pytest --require-cuda -q -p no:cacheprovider -m cuda tests
step "benchmarks" 100 "$PYTHON" -m pytest benchmarks -q -p no:cacheprovider --device cuda --results "$results"
for tool in memcheck initcheck racecheck; do
  step "compute-sanitizer $tool" 80 bash -c "sanitizer $tool"
done
step "the rest of the suite" 60 "$PYTHON" -m pytest -q -p no:cacheprovider -m "not cuda" -k "not simt" tests/kernels tests/images tests/test_fuser.py tests/test_pyramids.py

printf '\n== summary\n'
printf '%s\n' "${summary[@]}" "$results"
exit "$failed"
