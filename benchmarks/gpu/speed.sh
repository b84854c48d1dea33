#!/usr/bin/env bash
# Speed on CUDA: the share of the card's matrix rate, windows and whole runs from file to file, training, forms, and
# networks in bfloat16.
# bash benchmarks/gpu/speed.sh [PART ...]   a part or several: rate windows training forms networks (default: all).
# Where OUT is set, as on a machine that sends few files back, each part travels as an archive as soon as it has ended;
# a part that fails leaves what it has measured, and the others go on.
set -uo pipefail
out="${OUT:-benchmarks/results}"
[ $# -gt 0 ] || set -- rate windows training forms networks
for part; do
    case "$part" in
        rate | windows | training | forms | networks) ;;
        *) echo "speed.sh: there is no part '$part'; rate, windows, training, forms and networks are." >&2; exit 2 ;;
    esac
done
run() { "${PYTHON:-python}" -W ignore -m "$@" --out "$out"; }
measure() {
    case "$1" in
        rate) run benchmarks.card_rate ;;
        windows)
            run benchmarks.windows_speed --device cuda --batch 64 &&
                run benchmarks.pipeline_speed --device cuda --encoder resnet50 --only png nifti --rounds 3
            ;;
        # 12 loading processes begin with 24 batches: many more steps are timed, or they would all lie ready
        training) run benchmarks.training_table --batch-size 64 --num-workers 12 --steps 90 --sizes 256 512 ;;
        forms) run benchmarks.forms_speed --device cuda --batch 64 --rounds 1 ;;
        networks) run benchmarks.network_speed --device cuda --dtype bfloat16 --forward-batch 16 --train-batch 16 --rounds 1 \
            --networks "as shipped" "the paper's" "UNet 32-512" BasicUNet efficientnet-b0 SegResNet DynUNet ;;
    esac
}
pack() {
    (cd "$OUT" && shopt -s nullglob && files=(*.json *.md) && [ ${#files[@]} -gt 0 ] &&
        tar -czf "speed_$1.tar.gz" -- "${files[@]}" && rm -f -- "${files[@]}")
}

failed=0
for part; do
    measure "$part" || { echo "speed.sh: $part failed" >&2; failed=1; }
    [ -z "${OUT:-}" ] || pack "$part"
done
exit $failed
