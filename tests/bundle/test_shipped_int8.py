"""The network in 8-bit integers that lies beside the shipped weights."""

from __future__ import annotations

import html
import re
from pathlib import Path

import banet_monai
from banet_monai.export.description import Description
from banet_monai.report.manifest import file_sha256

MODELS = Path(__file__).resolve().parents[2] / "bundle" / "models"


def test_the_network_in_8_bit_integers_was_made_from_the_shipped_weights():
    found = re.search(r'<banet value="([^"]+)"', (MODELS / "model.xml").read_text())
    assert found is not None
    facts = Description.from_json(html.unescape(found[1]), origin="model.xml")
    assert (facts.precision, facts.task, facts.version) == ("int8", "skin_lesion", banet_monai.__version__)
    assert facts.weights_sha256 == file_sha256(MODELS / "model.pt")
    assert sum((MODELS / name).stat().st_size for name in ("model.xml", "model.bin")) < 25e6
