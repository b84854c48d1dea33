"""Objects on their way to and from a PACS: what names them, and what became of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from banet_monai.dicom.parsing import DicomReadError, has_dicom_magic, open_dataset, quiet_pydicom, text
from banet_monai.dicom.web_address import is_uid
from banet_monai.dicom.web_session import PacsError

__all__ = ["Instance", "StoreFailure", "StoreReport"]


@dataclasses.dataclass(frozen=True)
class Instance:
    """The UIDs that lead to an object; shown in no message."""

    study: str = dataclasses.field(repr=False)
    series: str = dataclasses.field(repr=False)
    sop: str = dataclasses.field(repr=False)

    @classmethod
    def of_file(cls, path: Path) -> Instance:
        """What a file is called in a PACS.

        Raises:
            PacsError: for a file that no PACS would keep.
        """
        try:
            with quiet_pydicom():
                dataset, _ = open_dataset(path)
        except FileNotFoundError:
            raise PacsError("there is no such file.") from None
        except DicomReadError as error:
            raise PacsError(str(error)) from None
        if not has_dicom_magic(path):
            raise PacsError("the file lacks the preamble of PS3.10, without which no PACS takes it.")
        study, series, sop = (text(dataset, f"{level}InstanceUID") for level in ("Study", "Series", "SOP"))
        if not (is_uid(study) and is_uid(series) and is_uid(sop)):
            raise PacsError("the object lacks a valid study, series or instance UID, without which no PACS keeps it.")
        return cls(study, series, sop)


class StoreFailure(NamedTuple):
    """A file that the PACS does not hold, and why."""

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True)
class StoreReport:
    """What became of the files; each is in exactly one of the three, and all are still where they were.

    Args:
        stored: now in the PACS.
        present: were there before, so not sent.
        failed: not there, with the reason.
    """

    stored: tuple[Path, ...] = ()
    present: tuple[Path, ...] = ()
    failed: tuple[StoreFailure, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.stored)} stored, {len(self.present)} already there, {len(self.failed)} failed"
