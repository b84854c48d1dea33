"""What the environment of MONAI Label and a built archive look like, for tests that start no server."""

from __future__ import annotations

import json
import stat
from pathlib import Path

NETWORK = {
    "_target_": "banet_monai.networks.BANet",
    "encoder": "mobilenet_v2",
    "output_stride": 16,
    "width": 96,
    "separable": True,
    "dropout": 0.1,
}
WHOLE = {"monailabel": "0.8.5", "torch": "2.13.0", "torchvision": "0.28.0", "numpy": "1.26.4", "pydicom": "2.4.5"}


def fake_environment(folder: Path, **changes: str) -> Path:
    """An environment whose Python prints versions, whatever it is asked, with the application that is copied."""
    facts = {"problem": "", **WHOLE, **changes}
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\ncat <<'FACTS'\n{json.dumps(facts)}\nFACTS\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    stock = folder / "monailabel" / "sample-apps" / "monaibundle"
    (stock / "lib").mkdir(parents=True)
    (stock / "main.py").write_text("# stock\n")
    (stock / "lib" / "__init__.py").touch()
    return folder


def make_archive(root: Path, *, version: str = "1.0") -> Path:
    """The files that are looked at; the network is the shipped one's, with random weights."""
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps({"bundle_root": ".", "network_def": NETWORK}))
    for name in ("train", "metadata"):
        (root / "configs" / f"{name}.json").write_text("{}")
    (root / "banet_monai" / "networks").mkdir(parents=True)
    (root / "banet_monai" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (root / "banet_monai" / "networks" / "banet.py").write_text("# layers\n")
    (root / "models").mkdir()
    return root
