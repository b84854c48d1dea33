#!/usr/bin/env bash
# One short training run and one inference on CUDA; the masks should equal those of the CPU but for rounding at the
# outline. A mask that does not is shown, and what follows in the call goes on.
# DEVICE=cpu tries the script itself where there is no GPU.
set -euo pipefail
python=${PYTHON:-python}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
device=${DEVICE:-cuda:0}
df -h /dev/shm || true  # batches of the loading processes lie there: half a gigabyte with five runs side by side
"$python" - "$device" <<'PYTHON'
import platform
import sys

import ignite
import monai
import numpy
import skimage
import torch

print(f"Python {platform.python_version()}", *(f"{m.__name__} {m.__version__}" for m in (torch, monai, numpy, ignite, skimage)))
if sys.argv[1] != "cpu":
    print(torch.cuda.get_device_name(), "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16")
PYTHON
"$python" -m monai.bundle run training --config_file bundle/configs/train.json --output_dir "$out/run" \
    --max_epochs "${EPOCHS:-2}" --limit 16 --image_size "${SIZE:-224}" --patience 0 --device "\$torch.device('$device')"
for where in "$device" cpu; do
    NVIDIA_TF32_OVERRIDE=0 "$python" -m monai.bundle run --config_file bundle/configs/inference.json --output_dir "$out/masks_${where%%:*}" \
        --device "\$torch.device('$where')" --amp none
done
"$python" - "$out/masks_cpu" "$out/masks_${device%%:*}" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

masks = sorted(Path(sys.argv[1]).rglob("*_mask.png"))
if not masks:
    sys.exit("no mask was written")
for path in masks:
    cpu, gpu = (np.asarray(Image.open(p)) > 0 for p in (path, Path(sys.argv[2], path.relative_to(sys.argv[1]))))
    share = float((cpu != gpu).mean())
    print(f"{path.name}: {share:.6f} of the pixels differ between CPU and {sys.argv[2].rpartition('_')[2]}")
    if share > 1e-3:
        print(f"DIFFERS  {path.name} between CPU and GPU")
PYTHON
