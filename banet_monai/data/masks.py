"""Label ids of a mask, whichever way its file spells them: 0/1, 0/255, JPEG-noisy 0/255, or ids 0..C."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from banet_monai.data.stored import is_black_and_white, undo_turn
from banet_monai.dicom.parsing import looks_like_dicom

__all__ = ["JPEG_NOISE", "mask_ids", "read_mask"]

JPEG_NOISE = 10
"""A value this close to 0 or 255 is what JPEG compression made of that value."""

BYTE_VALUES = 256
NAMED_VALUES = 8


def mask_ids(mask: NDArray[np.generic], *, num_classes: int = 1) -> NDArray[np.uint8]:
    """Turn the values of a mask into label ids.

    One class: {0, 1} and {0, 255} mean the same, and where a mask reaches 245 or more, values within 10 of 0 or 255
    count as these (JPEG noise). Several classes: the values must be the ids 0..``num_classes``.

    Args:
        mask: array of any shape and of any boolean, integer or floating type.
        num_classes: number of foreground classes; background, id 0, is not counted.

    Returns:
        Array of the same shape with the ids 0..``num_classes``.

    Raises:
        ValueError: for any other value; the message names the values and what would work.
    """
    if num_classes < 1 or num_classes >= BYTE_VALUES:
        raise ValueError(f"num_classes must be 1 to 255 foreground classes, got {num_classes}.")
    mask = np.asarray(mask)
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8)

    with np.errstate(invalid="ignore"):  # NaN does not survive the round trip and is named below
        ids = mask.astype(np.uint8)
    if mask.dtype != np.uint8 and not np.array_equal(ids, mask):
        raise ValueError(_refusal(np.unique(mask), num_classes))
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=BYTE_VALUES))
    if present.size == 0 or present[-1] <= num_classes:
        return ids
    high = BYTE_VALUES - 1 - JPEG_NOISE
    noise_only = np.all((present <= JPEG_NOISE) | (present >= high))
    if num_classes == 1 and present[-1] >= high and noise_only:
        return (ids >= high).astype(np.uint8)
    raise ValueError(_refusal(present, num_classes))


def _refusal(values: NDArray[np.generic], num_classes: int) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:NAMED_VALUES].tolist())
    more = ", ..." if values.size > NAMED_VALUES else ""
    if num_classes == 1:
        remedy = "one class needs 0 and 1, or 0 and 255 (up to 10 off); label ids of several classes need num_classes"
    else:
        remedy = f"{num_classes} classes need the ids 0 to {num_classes}"
    return f"a mask with {values.size} different values ({shown}{more}) cannot be read: {remedy}."


def read_mask(path: str | Path) -> NDArray[np.generic]:
    """Read the stored values of a mask file, without interpreting them.

    1-bit pictures give booleans, palette pictures their indices (0 and 255 where the palette is black and white alone,
    in whichever order), grey pictures stored with three equal colour
    channels one of them; an alpha channel is dropped.

    Args:
        path: a picture (axes row, column), a NIfTI file (axes as stored), or a DICOM file or folder of a series (x
            first).

    Raises:
        ValueError: when the picture has several frames or differing colours, which no rule turns into label ids, or the
            DICOM files form no image.
        OSError: when the file cannot be read (Pillow's and nibabel's own errors).
    """
    path = Path(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    if path.is_dir() or looks_like_dicom(path):
        return _read_dicom(path)
    with Image.open(path) as picture:
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise ValueError(f"the mask has {frames} frames, one is needed.")
        bands = picture.getbands()
        undo, levels = undo_turn(picture), picture.convert("L") if is_black_and_white(picture) else picture
        pixels = undo(np.asarray(levels))
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., : len(bands) - ("A" in bands)]
    if not (colours == colours[..., :1]).all():
        raise ValueError("the mask is coloured: save it as grey (0 and 255) or as an indexed-colour PNG of label ids.")
    return colours[..., 0]


def _read_dicom(path: Path) -> NDArray[np.generic]:
    from banet_monai.dicom.reading import SeriesReader  # takes a second, which most masks do without

    reader = SeriesReader()
    values, _ = reader.get_data(reader.read(str(path)))
    return np.asarray(values)
