#!/usr/bin/env bash
# On the rented machine: bash benchmarks/gpu/step.sh [check] STEP --minutes M [more of "python -m benchmarks.gpu step"]
#   check   first see that everything works on CUDA (a minute); a step may follow
#   place   unpack what was carried, and nothing else: "step.sh place STEP"
#   speed   timings, and nothing else, all or some parts: "step.sh speed rate windows"
# $OUT is the folder that comes back, $PYTHON the interpreter, $BANET_GPU_ROOT the workspace that outlives the call.
set -euo pipefail
began=$(date +%s)
cd "$(dirname "$0")/../.."
export OUT=${OUT:-$PWD/results/gpu}
export PYTHON=${PYTHON:-python3}
export BANET_GPU_ROOT=${BANET_GPU_ROOT:-${TMPDIR:-/tmp}/banet_gpu}
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
mkdir -p "$OUT" "$BANET_GPU_ROOT"

wheels=runs/gpu/carry/base/wheels
site=$BANET_GPU_ROOT/site
if ! [ -e "$site/done" ] && compgen -G "$wheels/*.whl" >/dev/null; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$wheels"/*.whl
    touch "$site/done"
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ -e "$site/done" ]; then export PYTHONPATH=$PYTHONPATH:$site; fi

case "${1:?"name a step: python -m benchmarks.gpu list"}" in
check)
    bash benchmarks/gpu/check.sh
    shift
    [ $# -gt 0 ] || exit 0
    ;;
speed)
    shift
    "$PYTHON" -m benchmarks.gpu place --note "$OUT"
    exec bash benchmarks/gpu/speed.sh "$@"
    ;;
place)
    shift
    exec "$PYTHON" -m benchmarks.gpu place "$@"
    ;;
esac
exec "$PYTHON" -m benchmarks.gpu step "$@" --began "$began"
