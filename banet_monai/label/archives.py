"""Built archives, checked before a server takes them: MONAI Label itself loads what does not fit without a word."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["check_archive", "code_digest", "require_same_code", "sources_digest"]

NEEDED = ("configs/inference.json", "configs/train.json", "configs/metadata.json", "banet_monai/__init__.py")
WEIGHTS = "models/model.pt"
# MONAI Label takes a bundle with such a word in its folder's name for one that does this
MISLEADING = ("deepedit", "deepgrow", "detection", "classification")


def check_archive(root: Path) -> None:
    """Refuse a folder that MONAI Label cannot serve, or would serve wrongly.

    Args:
        root: folder of a built archive.

    Raises:
        FileNotFoundError: when a file of the archive is missing, or it has no weights yet.
        ValueError: when its name misleads MONAI Label, another ``.pt`` lies beside the weights, or the weights do not
            fit its network; nothing is loaded in part.
    """
    missing = [name for name in NEEDED if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"'{root}' is no built archive: it lacks {', '.join(missing)}. Build one: python tools/build_bundle.py."
        )
    if "," in root.name:
        raise ValueError(f"MONAI Label would take '{root.name}' for several models, because of the comma; rename it.")
    if words := [word for word in MISLEADING if word in root.name.lower()]:
        raise ValueError(
            f"MONAI Label would take '{root.name}' for a {words[0]} model because of its name; rename the folder."
        )
    if not (root / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"'{root}' has no weights yet ({WEIGHTS} is missing), so it can propose no outline. Train it: python -m "
            f"monai.bundle run --config_file {root}/configs/train.json --bundle_root {root} --dataset_dir FOLDER"
        )
    others = sorted(file.name for file in (root / "models").glob("*.pt") if file.name != "model.pt")
    if others:
        raise ValueError(f"'{root}/models' also holds {', '.join(others)}; only model.pt may lie there, move the rest.")
    _require_fit(root)


def code_digest(root: Path) -> str:
    """SHA-256 of the package ``banet_monai`` in a folder: names and contents of its modules."""
    return _digest(root, (root / "banet_monai").rglob("*.py"))


def sources_digest(clone: Path) -> str:
    """SHA-256 of what archives are built from: the package, the bundle with its tasks, the builder."""
    folders = (clone / name for name in ("banet_monai", "bundle", "tools"))
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return _digest(clone, (file for file in files if "__pycache__" not in file.parts))


def require_same_code(roots: Sequence[Path]) -> None:
    """Refuse archives with different ``banet_monai``: one server imports it once, from the first of them, for all.

    Raises:
        ValueError: naming two that differ, with their versions.
    """
    for root in roots[1:]:
        if code_digest(root) != code_digest(roots[0]):
            first, other = (f"'{each.name}' ({_version(each)})" for each in (roots[0], root))
            raise ValueError(
                f"{first} and {other} carry different versions of banet_monai, and one server would run both with the "
                "first; build both from the same sources, or start a server for each."
            )


def _digest(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _version(root: Path) -> str:
    text = (root / "banet_monai" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "no version"


def _require_fit(root: Path) -> None:
    from monai.bundle import ConfigParser  # takes seconds

    from banet_monai.networks import load_weights

    parser = ConfigParser(ConfigParser.load_config_file(str(root / "configs" / "inference.json")))
    parser["bundle_root"] = str(root)
    load_weights(parser.get_parsed_content("network_def"), root / WEIGHTS)
