#!/usr/bin/env bash
# Speed on CUDA: the share of the card's matrix rate, windows, training, forms, and every network in bfloat16.
# bash benchmarks/gpu/speed.sh [PART ...]   a part or several: rate windows training forms networks (default: all).
# Where OUT is set, as on a machine that sends few files back, the results travel as one archive.
set -euo pipefail
out="${OUT:-benchmarks/results}"
parts=("${@:-rate windows training forms networks}")
run() { "${PYTHON:-python}" -W ignore -m "$@" --out "$out"; }

for part in ${parts[*]}; do
    case "$part" in
        rate) run benchmarks.card_rate ;;
        windows) run benchmarks.windows_speed --device cuda --batch 64 ;;
        training) run benchmarks.training_table --batch-size 64 --num-workers 12 --limit 512 --steps 10 ;;
        forms) run benchmarks.forms_speed --device cuda --batch 64 --rounds 1 ;;
        networks) run benchmarks.network_speed --device cuda --dtype bfloat16 --forward-batch 16 --train-batch 16 ;;
        *) echo "speed.sh: there is no part '$part'; rate, windows, training, forms and networks are." >&2; exit 2 ;;
    esac
done
[ -z "${OUT:-}" ] || { cd "$OUT" && tar -czf speed.tar.gz -- *.json *.md && rm -f -- *.json *.md; }
