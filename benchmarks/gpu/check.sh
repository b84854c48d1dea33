#!/usr/bin/env bash
# One short training run and one inference on CUDA; the masks must equal those of the CPU but for rounding at the outline.
set -euo pipefail
out=${OUT:-results/gpu}
python -m monai.bundle run training --config_file bundle/configs/train.json --max_epochs 2 --output_dir "$out/run"
for device in cuda:0 cpu; do
    python -m monai.bundle run --config_file bundle/configs/inference.json --output_dir "$out/${device%%:*}" \
        --device "\$torch.device('$device')" --amp none
done
python - "$out" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

for path in sorted(Path(sys.argv[1], "cpu").glob("*_mask.png")):
    cpu, gpu = (np.asarray(Image.open(p)) > 0 for p in (path, Path(sys.argv[1], "cuda", path.name)))
    share = float((cpu != gpu).mean())
    print(f"{path.name}: {share:.6f} of the pixels differ")
    if share > 1e-3:
        sys.exit(f"{path.name} differs between CPU and GPU")
PYTHON
