"""The demonstration data: synthetic skin, made by code, so that everything runs before anybody has data of their own.

Folders below the root::

    train/images, train/masks     pictures (PNG) with their lesion masks (PNG, 0 and 255)
    val/images, val/masks         the same, to validate on
    inference/                    skin_rgb.png, skin_photo.jpg, skin_rgba.png, skin_volume.nii.gz, skin_series/*.dcm
    inference_truth/              the true mask of each of these
    README.txt, contents.json     what this is, and the list of files by which a complete set is recognised
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from banet_monai.data.phantom_files import oblique_grid, write_nifti, write_series
from banet_monai.data.skin_phantom import skin_picture, skin_volume

__all__ = ["demonstration_data", "make_demonstration_data"]

CONTENTS = "contents.json"
KIND = "banet-monai synthetic demonstration data"
VERSION = 1  # raise when the files change, so that older sets are made anew
VOLUME_SHAPE, VOLUME_SPACING = (112, 128, 20), (0.8, 0.8, 3.0)  # rows, columns, slices; mm per column, row, slice
SERIES_SHAPE, SERIES_SPACING = (144, 160, 14), (0.7, 0.7, 4.0)

README = """Synthetic demonstration data: made by code, no patient.

The pictures, the volume and the DICOM series in this folder were drawn by a program (banet_monai.data.phantom). They
only look like skin seen through a dermatoscope; they show no person and are of no clinical use. A network that was
trained on them alone has learned nothing about real lesions.

train/, val/       pictures with the mask of the lesion (0 background, 255 lesion)
inference/         files to segment: three pictures, a NIfTI volume, a DICOM series
inference_truth/   the true masks of the files in inference/
"""


def demonstration_data(root: str | Path) -> str:
    """Make the demonstration data below ``root`` unless they are there already, complete and of this version.

    Returns:
        ``root`` as a string, to be used as ``dataset_dir``.

    Raises:
        FileExistsError: when ``root`` holds something else.
    """
    root = Path(root)
    if not _is_complete(root):
        try:
            make_demonstration_data(root)
        except FileExistsError:
            if not _is_complete(root):  # else another process was faster
                raise
    return str(root)


def make_demonstration_data(
    root: str | Path, *, seed: int = 0, num_train: int = 48, num_val: int = 12, size: int = 256
) -> Path:
    """Make the demonstration data: the same arguments give the same files, byte for byte.

    The set is built in a temporary folder beside ``root`` and then renamed, so that a half-made one is never seen.

    Args:
        root: folder to make; demonstration data that lie there are replaced.
        seed: another seed gives other pictures.
        num_train: training pictures.
        num_val: validation pictures.
        size: width of the pictures in pixels, at least 64; heights vary from 3/4 of it to all of it.

    Raises:
        FileExistsError: when ``root`` holds anything but demonstration data; nothing of it is touched.
        ValueError: when a number is too small.
    """
    root = Path(root)
    if size < 64 or num_train < 1 or num_val < 1:
        raise ValueError(
            f"need size >= 64 and at least one training and validation picture, got {size}, {num_train}, {num_val}."
        )
    _refuse_foreign(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        fresh = workplace / "fresh"
        for number, (split, count) in enumerate((("train", num_train), ("val", num_val))):
            _write_split(fresh / split, count, size, seed=(seed, number))
        _write_inference(fresh, size, seed)
        (fresh / "README.txt").write_text(README, encoding="utf-8", newline="\n")
        files = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file())
        contents = {"kind": KIND, "version": VERSION, "seed": seed, "files": files}
        (fresh / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8", newline="\n")
        _put_in_place(fresh, root, workplace / "old")
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return root


def _contents(root: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        contents = json.loads((root / CONTENTS).read_text(encoding="utf-8"))
        if isinstance(contents, dict) and contents.get("kind") == KIND:
            return contents
    return {}


def _is_complete(root: Path) -> bool:
    contents = _contents(root)
    files = contents.get("files")
    if contents.get("version") != VERSION or not isinstance(files, list):
        return False
    return all((root / str(name)).is_file() for name in files)


def _refuse_foreign(root: Path) -> None:
    if root.is_file() or (root.is_dir() and any(root.iterdir()) and not _contents(root)):
        raise FileExistsError(f"'{root}' holds something that is no demonstration data: name a new or empty folder.")


def _put_in_place(fresh: Path, root: Path, old: Path) -> None:
    _refuse_foreign(root)
    if root.is_dir():  # empty, or a set of ours
        root.rename(old)
    try:
        fresh.rename(root)
    except OSError as error:
        raise FileExistsError(f"'{root}' appeared while it was being made.") from error


def _write_split(folder: Path, count: int, size: int, *, seed: tuple[int, int]) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        rng = np.random.default_rng([*seed, number])
        height = int(size * rng.choice([0.75, 0.75, 0.8, 1.0]))
        picture, mask = skin_picture(rng, height, size)
        name = f"synthetic_{number:03d}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        _write_mask(folder / "masks" / name, mask)


def _write_inference(root: Path, size: int, seed: int) -> None:
    folder, truth = root / "inference", root / "inference_truth"
    folder.mkdir()
    truth.mkdir()
    shapes = {"skin_rgb.png": (0.75, 1.25), "skin_photo.jpg": (1.5, 1.125), "skin_rgba.png": (1.0, 1.0)}
    for number, (name, (tall, wide)) in enumerate(shapes.items()):
        picture, mask = skin_picture(np.random.default_rng([seed, 2, number]), int(size * tall), int(size * wide))
        image = Image.fromarray(picture)
        if name == "skin_rgba.png":
            image.putalpha(255)
        image.save(folder / name, quality=92)
        _write_mask(truth / f"{Path(name).stem}_mask.png", mask)

    rng = np.random.default_rng([seed, 3])
    volume, mask = skin_volume(rng, VOLUME_SHAPE)
    grid = oblique_grid(rng, VOLUME_SPACING)
    write_nifti(folder / "skin_volume.nii.gz", volume, grid)
    write_nifti(truth / "skin_volume_mask.nii.gz", mask.astype(np.uint8), grid)

    rng = np.random.default_rng([seed, 4])
    volume, mask = skin_volume(rng, SERIES_SHAPE)
    grid = oblique_grid(rng, SERIES_SPACING)
    write_series(folder / "skin_series", volume, grid, seed=seed)
    write_nifti(truth / "skin_series_mask.nii.gz", mask.astype(np.uint8), grid)


def _write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(path)
