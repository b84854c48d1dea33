"""Checks of a built bundle that only read its files.

Each takes the folder and returns what is wrong, one line per fault; no line means that it holds. They follow the rules
of the model zoo (its contributing guide, its pre-commit hooks and its ``verify_bundle``) and what MONAI Label needs.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.zoo.large_files import FILE_NAME, LIMIT, read_large_files, sha256

__all__ = ["FILE_CHECKS", "problems_of"]

REQUIRED = (
    "LICENSE",
    "banet_monai/__init__.py",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/train.json",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
    "models/shipped/model.pt",
)
SECTIONS = ("Description", "Data", "Performance", "Usage", "System", "Limitations", "Citation")
# Keys that the zoo's guide wants, by configuration
KEYS = {
    "inference": ("bundle_root", "device", "network_def", "inferer", "output_dir", "preprocessing", "postprocessing"),
    "train": ("bundle_root", "device", "dataset_dir", "output_dir", "val_interval", "network_def", "train", "validate"),
}
PARTS = {
    "train": ("trainer", "dataset", "handlers", "inferer", "preprocessing"),
    "validate": ("evaluator", "dataset", "handlers", "inferer", "preprocessing", "postprocessing", "key_metric"),
}
# In a folder's name these make MONAI Label take the bundle for another kind of task
OTHER_TASKS = ("detection", "classification", "deepgrow", "deepedit")
PERSONAL = re.compile(r"(?<![\w.])/(?:home|Users|root|mnt|media)/\w|[A-Za-z]:\\\\?Users\\|BEGIN [A-Z ]*PRIVATE KEY")
CACHES = re.compile(r"(^|/)(__pycache__|\.[^/]+)(/|$)|\.py[co]$")
BINARY = (".pt", ".ts", ".onnx", ".jpg", ".png")


def check_name(bundle: Path) -> Iterator[str]:
    """Lower case, words joined by underscores, none of those that mean another kind of task."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", bundle.name):
        yield f"the folder's name '{bundle.name}' must be lower-case words joined by underscores"
    for word in OTHER_TASKS:
        if word in bundle.name:
            yield f"MONAI Label takes '{bundle.name}' for another kind of task because of '{word}'"


def check_files(bundle: Path) -> Iterator[str]:
    """Everything that the zoo requires or prefers is there, and nothing hidden or cached."""
    hint = ": this bundle only trains, and the zoo takes it when it has weights" if _only_trains(bundle) else ""
    for path in REQUIRED:
        if not (bundle / path).is_file():
            yield f"{path} is missing" + (hint if path.endswith(".pt") else "")
    for path in _paths(bundle):
        if CACHES.search(path):
            yield f"{path} is a cache or hidden file: build the bundle again"


def check_json(bundle: Path) -> Iterator[str]:
    """Configurations are JSON objects without doubled keys, with 4 spaces and a final newline."""
    for file in sorted((bundle / "configs").glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique)
        except ValueError as error:
            yield f"configs/{file.name}: {error}"
            continue
        if file.read_text(encoding="utf-8") != json.dumps(content, indent=4, ensure_ascii=False) + "\n":
            yield f"configs/{file.name} is not written with 4 spaces and a final newline"


def check_text(bundle: Path) -> Iterator[str]:
    """What the zoo's pre-commit hooks want of text: UTF-8, final newline, no trailing blanks, no carriage returns."""
    for path, content in _texts(bundle):
        if "\ufffd" in content:
            yield f"{path} is not UTF-8"
        elif "\r" in content:
            yield f"{path} has carriage returns"
        elif (content and not content.endswith("\n")) or content.endswith("\n\n"):
            yield f"{path} must end with one newline"
        if match := re.search(r"[ \t]+$", content, re.MULTILINE):
            yield f"{path}, line {content.count(chr(10), 0, match.start()) + 1}: blanks at the end"


def check_personal_paths(bundle: Path) -> Iterator[str]:
    """No path of somebody's home folder, no private key."""
    for path, content in _texts(bundle):
        if match := PERSONAL.search(content):
            yield f"{path}, line {content.count(chr(10), 0, match.start()) + 1}: '{match[0]}'"


def check_version(bundle: Path) -> Iterator[str]:
    """One version, of metadata and package, and it stands in the change log."""
    metadata = _metadata(bundle)
    version, changelog = metadata.get("version"), metadata.get("changelog", {})
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(version)):
        yield f"configs/metadata.json: version must be like 1.2.3, got {version!r}"
    if version not in changelog:
        known = ", ".join(changelog) or "nothing"
        yield f"configs/metadata.json: version {version} is missing in the changelog, which has {known}"
    package = re.search(r'^__version__ = "([^"]+)"', _text(bundle / "banet_monai" / "__init__.py"), re.MULTILINE)
    if package and package[1] != version:
        yield f"the package has version {package[1]} and configs/metadata.json {version}"


def check_archive(bundle: Path) -> Iterator[str]:
    """Where archives lie beside the folder, the one of this version holds the same files."""
    archives = sorted(bundle.parent.glob(f"{bundle.name}_v*.zip"))
    file = bundle.parent / f"{bundle.name}_v{_metadata(bundle).get('version')}.zip"
    if not archives:
        return
    if file not in archives:
        yield f"there is {archives[-1].name} and no {file.name}"
        return
    with zipfile.ZipFile(file) as archive:
        packed = {entry.filename: entry.CRC for entry in archive.infolist()}
    folder = {f"{bundle.name}/{path}": zlib.crc32((bundle / path).read_bytes()) for path in _paths(bundle)}
    for path in sorted(set(packed) ^ set(folder)):
        yield f"{path} is only in {'the archive' if path in packed else 'the folder'}"
    for path in sorted(path for path in set(packed) & set(folder) if packed[path] != folder[path]):
        yield f"{path} differs between folder and archive"


def check_licence(bundle: Path) -> Iterator[str]:
    """The Apache License 2.0 in a file that is called LICENSE, and what the licences of the data are."""
    text = _text(bundle / "LICENSE")
    if not ("Apache License" in text and "Version 2.0, January 2004" in text):
        yield "LICENSE is not the text of the Apache License, Version 2.0"
    if "Apache License, Version 2.0" not in _metadata(bundle).get("copyright", ""):
        yield "configs/metadata.json: copyright does not name the Apache License, Version 2.0"
    if len(_text(bundle / "docs" / "data_license.txt").split()) < 20:
        yield "docs/data_license.txt does not say under which licence the data may be used"


def check_documents(bundle: Path) -> Iterator[str]:
    """The model card has the sections of the zoo's template, and each says something."""
    parts = re.split(r"^## +(.+)$", _text(bundle / "docs" / "README.md"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name in SECTIONS:
        if not sections.get(name, "").strip():
            yield f"docs/README.md has no section '## {name}', or nothing in it"


def check_large_files(bundle: Path) -> Iterator[str]:
    """Files above 1,024 kB are listed in large_files.yml with their address and digest, and nothing else is."""
    large = {path for path in _paths(bundle) if (bundle / path).stat().st_size > LIMIT}
    try:
        entries = {entry.path: entry for entry in read_large_files(bundle / FILE_NAME)}
    except FileNotFoundError:
        entries = {}
    except ValueError as error:
        yield str(error)
        return
    for path in sorted(large - set(entries)):
        size = (bundle / path).stat().st_size // 1024
        yield f"{path} has {size} kB, above {LIMIT // 1024}, and is not in {FILE_NAME}"
    for path, entry in entries.items():
        if not entry.url.startswith("https://"):
            yield f"{FILE_NAME}: the address of {path} must begin with https://, got '{entry.url}'"
        if not (bundle / path).is_file():
            yield f"{FILE_NAME} lists {path}, which is missing"
        elif entry.hash_type != "sha256" or sha256(bundle / path) != entry.hash_val:
            hint = "python -m banet_monai.restore brings shipped weights back"
            yield f"{FILE_NAME}: {path} is not the file that is listed; {hint}"


def check_names(bundle: Path) -> Iterator[str]:
    """Keys under the names that the zoo, MONAI Label and MONAI Deploy look for."""
    sides = _metadata(bundle).get("network_data_format", {})
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        first = next(iter(sides.get(side, {})), None)
        if first != name:
            yield f"configs/metadata.json: the first of network_data_format::{side} must be '{name}', got '{first}'"
        elif not all(isinstance(size, int) for size in sides[side][name].get("spatial_shape", [None])):
            yield f"configs/metadata.json: spatial_shape of '{name}' must hold whole numbers"
    for config, keys in KEYS.items():
        content = _object(bundle / "configs" / f"{config}.json")
        for key in keys:
            if key not in content:
                yield f"configs/{config}.json has no '{key}'"
        for part in PARTS if config == "train" else ():
            for key in PARTS[part]:
                if key not in content.get(part, {}):
                    yield f"configs/train.json has no '{part}::{key}'"


FILE_CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "name": check_name,
    "files": check_files,
    "json": check_json,
    "text": check_text,
    "personal_paths": check_personal_paths,
    "version": check_version,
    "archive": check_archive,
    "licence": check_licence,
    "documents": check_documents,
    "large_files": check_large_files,
    "names": check_names,
}
"""Every check by its name, in the order in which they run."""


def problems_of(name: str, bundle: Path) -> list[str]:
    """What a check of ``FILE_CHECKS`` finds; where it breaks at what it reads, that is what it found."""
    try:
        return list(FILE_CHECKS[name](bundle))
    except Exception as error:  # broken archives and configurations of any shape
        return [f"the check could not be made ({type(error).__name__}: {error})"]


def _only_trains(bundle: Path) -> bool:
    return (bundle / "models" / "README.txt").is_file()


def _paths(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


def _texts(bundle: Path) -> Iterator[tuple[str, str]]:
    for path in _paths(bundle):
        if not path.endswith(BINARY) and not CACHES.search(path):
            with (bundle / path).open(encoding="utf-8", errors="replace", newline="") as file:
                yield path, file.read()


def _text(file: Path) -> str:
    """Content of a file, nothing where it is missing: the check of files names it."""
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _object(file: Path) -> dict[str, Any]:
    """A configuration, empty where it is missing or broken: other checks name it."""
    try:
        content = json.loads(_text(file) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _metadata(bundle: Path) -> dict[str, Any]:
    return _object(bundle / "configs" / "metadata.json")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' stands there twice")
        found[key] = value
    return found
