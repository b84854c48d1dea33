#!/usr/bin/env bash
# Forward pass and training step of every network in bfloat16 on CUDA, one process each.
set -euo pipefail
"${PYTHON:-python}" -m benchmarks.network_speed --device cuda --dtype bfloat16 --forward-batch 16 --train-batch 16 \
    --out "${OUT:-benchmarks/results}"
