"""What a run needs to know before it starts: the conditions that fit its images, and the facts it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import banet_monai
from banet_monai.report.manifest import file_sha256
from banet_monai.robustness.catalogue import Condition, conditions
from banet_monai.robustness.measuring import CaseMeasurer, is_volume
from banet_monai.uncertainty.members import member_files
from banet_monai.uncertainty.temperature import CALIBRATION

__all__ = ["facts_of", "fitting_conditions"]

TRIED = 5  # cases that are opened to see whether they are volumes
# where files lie and how much is computed at once: nothing that figures depend on
OUTER = ("bundle_root", "output_dir", "dataset_dir", "checkpoint", "device", "sw_batch_size", "num_workers")


def fitting_conditions(
    measurer: CaseMeasurer,
    cases: Sequence[Mapping[str, Any]],
    corruptions: Sequence[str] | None,
    strengths: Sequence[int],
) -> list[Condition]:
    """The conditions for these cases, by the first of them that can be read: pictures or volumes.

    Args:
        measurer: reads them.
        cases: data dictionaries.
        corruptions: see :func:`banet_monai.robustness.catalogue.conditions`.
        strengths: out of 1 to 5.

    Raises:
        ValueError: for a corruption that these images cannot have.
    """
    volumes = False
    for case in cases[:TRIED]:
        with suppress(Exception):  # it is reported when its turn comes
            volumes = is_volume(measurer.load(case))
            break
    return conditions(corruptions, strengths, volumes=volumes)


def facts_of(settings: Mapping[str, Any], *, weights: str | Path | None) -> dict[str, Any]:
    """What the figures depend on besides the cases: version, weights, temperatures and settings, without paths."""
    file = None if weights is None else Path(weights)
    known = file is not None and file.is_file()
    others = [*member_files(settings.get("ensemble")), *([] if file is None else [file.with_name(CALIBRATION)])]
    return {
        "version": banet_monai.__version__,
        "weights_sha256": file_sha256(file) if known and file is not None else "",
        "other_files_sha256": [file_sha256(other) for other in others if other.is_file()],
        "settings": {name: str(value) for name, value in sorted(settings.items()) if name not in OUTER},
    }
