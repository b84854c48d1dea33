"""What an annotation server shows: a folder of images, or a DICOMweb server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["LISTED", "Studies", "check_studies", "demonstration_studies"]

LISTED = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".nii", ".nii.gz", ".dcm")
"""Suffixes of the images that a server lists, as they are written."""

HTTP = ("http://", "https://")
PICTURES, SIDE = 8, 256  # synthetic pictures to try a server with, and their side in pixels


@dataclass(frozen=True)
class Studies:
    """Where images come from.

    Attributes:
        place: absolute path of a folder, or address of a DICOMweb server.
        images: number of images in the folder; None for an address.
    """

    place: str
    images: int | None


def check_studies(place: str) -> Studies:
    """Refuse a folder without an image that MONAI Label lists; it lists the folder itself and none below.

    Args:
        place: folder, or address that begins with ``http://`` or ``https://``.

    Raises:
        FileNotFoundError: when there is no such folder, or no image in it.
        NotADirectoryError: when it is a file.
        ValueError: when an address holds a name or password.
    """
    if place.lower().startswith(HTTP):
        if "@" in urlsplit(place).netloc:
            raise ValueError(
                "the address holds a name or password, which logs and the list of processes would show; give them as "
                "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD, and the address without them."
            )
        scheme, _, rest = place.rstrip("/").partition("://")
        return Studies(f"{scheme.lower()}://{rest}", None)  # MONAI Label knows addresses by small letters
    folder = Path(place)
    if not folder.exists():
        raise FileNotFoundError(f"the folder '{place}' does not exist; name a folder of images, or a DICOMweb address.")
    if not folder.is_dir():
        raise NotADirectoryError(f"'{place}' is a file; name the folder that it lies in.")
    images = [path for path in folder.iterdir() if path.is_file() and path.name.endswith(LISTED)]
    if not images:
        raise FileNotFoundError(f"there is no image in '{place}'{_hint(folder)}. Listed are {', '.join(LISTED)}.")
    return Studies(str(folder.resolve()), len(images))


def demonstration_studies(folder: Path) -> Path:
    """Synthetic pictures of skin, drawn by code, in a folder that holds none yet.

    Returns:
        ``folder``.
    """
    if folder.is_dir() and any(folder.glob("*.png")):
        return folder
    import numpy as np
    from PIL import Image

    from banet_monai.data.skin_phantom import skin_picture

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, PICTURES + 1):
        picture, _ = skin_picture(np.random.default_rng(number), SIDE, SIDE)
        Image.fromarray(picture).save(folder / f"synthetic_{number:02d}.png")
    return folder


def _hint(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        return ", it is empty"
    below = {path.parent for path in files if path.parent != folder and path.name.endswith(LISTED)}
    if below:
        shown = sorted(str(path) for path in below)[0]
        return f" itself, but below it, as in '{shown}'; MONAI Label lists one folder, name that"
    if any(path.name.lower().endswith(LISTED) for path in files):
        return ": suffixes must be in small letters"
    return f", only {len(files)} other file{'s' if len(files) > 1 else ''}"
