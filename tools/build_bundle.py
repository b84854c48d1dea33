"""Makes the archives of the model zoo: ``dist/<name>/`` and ``dist/<name>_v<version>.zip`` for each task.

An archive is the task's plain configurations (those of ``bundle/`` with those of ``bundle/tasks/<task>/`` laid over
them, as ``monai.bundle run --config_file "[...]"`` merges them), the package ``banet_monai``, documents and weights.
The same sources give the same bytes.

    python tools/build_bundle.py                         # the task that ships weights
    python tools/build_bundle.py polyp --training-only   # a task without weights
"""

from __future__ import annotations

import argparse
import filecmp
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file can be started by its path

from tools.zoo import large_files  # noqa: E402

__all__ = ["MAIN_TASK", "WEIGHTS_URL", "build", "bundle_name", "main", "task_names"]

MAIN_TASK = "skin_lesion"
# Where the files named in large_files.yml can be downloaded: by default the place where the zoo hosts a bundle.
WEIGHTS_URL = "https://huggingface.co/MONAI/{name}/resolve/{version}/models/model.pt"

WEIGHTS = "models/model.pt"
SHIPPED = "models/shipped/model.pt"
CALIBRATION = "calibration.json"  # fitted temperatures, beside the weights that they were fitted for
# What differs between a clone and an archive, by configuration
IN_ARCHIVE: dict[str, dict[str, object]] = {
    "train": {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/runs'",
        "ckpt_dir": "$@bundle_root + '/models'",
        "keep_start": False,  # who trains an archive on labels of their own wants what was trained
        "shipped_weights": f"$@bundle_root + '/{SHIPPED}'",
    },
    "inference": {"bundle_root": ".", "checkpoint": f"$@bundle_root + '/{WEIGHTS}'"},
}
# Configurations that are complete by themselves, and what each is laid over; all others stay overlays
BASES: dict[str, tuple[str, ...]] = {"train": (), "inference": (), "metadata": (), "evaluate": ("inference",)}
ADD_ROOT = "$sys.path.append(@bundle_root)"
# In the package's folder, and no part of it: caches, hidden files, what editors and patches leave
LEFT_OUT = re.compile(r"(^|/)(__pycache__|\.[^/]+)(/|$)|\.py[co]$|~$|\.(orig|rej)$")
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can state
NO_WEIGHTS = """This bundle ships no weights: it trains. Training writes model.pt here.
Then the other commands of docs/README.md work too.
"""


def task_names(source: Path = ROOT) -> list[str]:
    """The main task and those of ``bundle/tasks``."""
    return [MAIN_TASK, *sorted(path.parent.name for path in (source / "bundle" / "tasks").glob("*/inference.json"))]


def bundle_name(task: str) -> str:
    """Name of a task's bundle, which is also the name of its folder."""
    return f"banet_{task}_segmentation"


def build(
    task: str,
    output: Path,
    *,
    training_only: bool = False,
    weights_url: str = WEIGHTS_URL,
    source: Path = ROOT,
) -> Path:
    """Write ``output/<name>/`` and ``output/<name>_v<version>.zip``.

    Args:
        task: ``"skin_lesion"`` or the name of a folder of ``bundle/tasks``.
        output: folder to write to; it is made.
        training_only: build without weights where the task has none.
        weights_url: address of ``models/model.pt`` for ``large_files.yml``; ``{name}`` and ``{version}`` are replaced.
        source: root of the clone.

    Returns:
        The folder of the bundle.

    Raises:
        FileNotFoundError: when a file of the bundle, or the task's weights, are missing.
        ValueError: when the task is unknown, versions disagree, the weights do not fit, or the target holds weights
            that were trained there.
    """
    if task not in task_names(source):
        raise ValueError(f"there is no task '{task}'; known are {', '.join(task_names(source))}.")
    name, version = bundle_name(task), _version(source)
    folder = source / "bundle" if task == MAIN_TASK else source / "bundle" / "tasks" / task
    configs = _configs(task, source)
    _require_version(configs["metadata"], version, task)
    weights = _weights(folder, task, training_only=training_only)
    if weights:
        _require_fit(weights, configs["inference"])

    files: dict[str, bytes] = {f"configs/{key}.json": _as_json(value) for key, value in configs.items()}
    files["configs/logging.conf"] = _read(source / "bundle" / "configs" / "logging.conf")
    files["LICENSE"] = _read(source / "bundle" / "LICENSE")
    documents = ("docs/README.md", "docs/data_license.txt") if task == MAIN_TASK else ("card.md", "data_license.txt")
    for target, document in zip(("docs/README.md", "docs/data_license.txt"), documents, strict=True):
        files[target] = _read(folder / document)
    files |= {f"docs/{picture.name}": _read(picture) for picture in sorted((folder / "docs").glob("*.jpg"))}
    files["requirements.txt"] = _requirements(configs["metadata"])
    files |= _package(source / "banet_monai")
    if weights:
        files[WEIGHTS] = files[SHIPPED] = _read(weights)
        url, digest = weights_url.replace("{name}", name).replace("{version}", version), large_files.sha256(weights)
        entries = [large_files.LargeFile(path, url, digest) for path in (WEIGHTS, SHIPPED)]
        files[large_files.FILE_NAME] = large_files.text_of(entries).encode()
        files |= _calibration(weights, digest)
    else:
        files["models/README.txt"] = NO_WEIGHTS.encode()

    _write_folder(output / name, files)
    _write_zip(output / f"{name}_v{version}.zip", name, files)
    return output / name


# ---- configurations --------------------------------------------------------------------------------------------------


def _configs(task: str, source: Path) -> dict[str, dict[str, Any]]:
    """Every configuration of a task by its name, without suffix."""
    folders = [source / "bundle" / "configs"]
    folders += [] if task == MAIN_TASK else [source / "bundle" / "tasks" / task]
    overlays = (path.stem for folder in folders for path in sorted(folder.glob("*.json")))
    names = dict.fromkeys([*BASES, *overlays])
    return {name: _config(name, folders) for name in names}


def _config(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """One configuration: complete, or, where it is an overlay, as it stands with the task's entries."""
    layers = (*BASES.get(name, ()), name)
    found = [file for layer in layers for folder in folders if (file := folder / f"{layer}.json").is_file()]
    contents = [_parse(file) for file in found]
    if name not in BASES:
        return {key: value for content in contents for key, value in content.items()}
    _read(folders[0] / f"{name}.json")

    from monai.bundle import ConfigParser  # takes seconds

    merged = ConfigParser.load_config_files([str(file) for file in found])
    config = _ordered(merged, contents)
    for layer in layers:
        config |= {key: value for key, value in IN_ARCHIVE.get(layer, {}).items() if key in config}
    if name == "train" and config["init"] == "imagenet":
        config["init"] = "present"  # training goes on where the archive has been trained, as on an annotation server
    if "network_def" in config:
        # finds the package below --bundle_root also where MONAI runs no "initialize": verify_net_in_out, *_export, load
        config["network_def"] = {"_requires_": ADD_ROOT, **config["network_def"]}
    if name == "metadata":
        config = {key: value for key, value in config.items() if value is not None}  # null takes an entry away
    return config


def _ordered(merged: Mapping[str, Any], contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``merged`` with each entry that an overlay adds behind the entry that precedes it in that overlay."""
    order = list(contents[0])
    for content in contents[1:]:
        place = len(order)
        for key in content:
            if key in order:
                place = order.index(key) + 1
            elif key in merged:
                order.insert(place, key)
                place += 1
    return {key: merged[key] for key in order}


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got a {type(content).__name__}.")
    return content


def _as_json(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=4, ensure_ascii=False) + "\n").encode()


# ---- what must hold --------------------------------------------------------------------------------------------------


def _version(source: Path) -> str:
    found = re.search(
        r'^__version__ = "([^"]+)"$', _read(source / "banet_monai" / "__init__.py").decode(), re.MULTILINE
    )
    if not found:
        raise ValueError(f"{source / 'banet_monai' / '__init__.py'} states no __version__.")
    return found[1]


def _require_version(metadata: Mapping[str, Any], version: str, task: str) -> None:
    stated, changelog = metadata.get("version"), metadata.get("changelog", {})
    if stated != version:
        raise ValueError(f"{task}: metadata.json has version {stated} and the package {version}; make them equal.")
    if version not in changelog:
        known = ", ".join(changelog) or "nothing"
        raise ValueError(
            f"{task}: version {version} is missing in the changelog of metadata.json, which has {known}; "
            "write there what is new."
        )


def _weights(folder: Path, task: str, *, training_only: bool) -> Path | None:
    """The weights to ship, None for a bundle that only trains."""
    file = folder / WEIGHTS if task == MAIN_TASK else folder / "model.pt"
    if training_only and file.is_file():
        raise ValueError(f"{task} has weights ({file}), so it is not for training only: build it without that option.")
    if not training_only and not file.is_file():
        raise FileNotFoundError(
            f"{task} has no weights ({file} does not exist): train them and put them there, or build a bundle that "
            "only trains, with --training-only."
        )
    return file if file.is_file() else None


def _require_fit(weights: Path, inference: Mapping[str, Any]) -> None:
    """The weights must be tensors by name and fit the network, all of them."""
    import torch
    from monai.bundle import ConfigParser

    from banet_monai.networks import load_weights

    parser = ConfigParser(dict(inference))
    load_weights(parser.get_parsed_content("network_def"), weights)
    content = torch.load(weights, map_location="cpu", weights_only=True)
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(
            f"{weights} is nested: save the state dictionary itself, torch.save(network.state_dict(), path)."
        )


def _calibration(weights: Path, digest: str) -> dict[str, bytes]:
    """The temperatures beside the weights, where there are some and they are theirs."""
    file = weights.with_name(CALIBRATION)
    if not file.is_file():
        return {}
    if _parse(file).get("weights_sha256") != digest:
        fit = f"python -m benchmarks.uncertainty --data DATASET --calibration {file}"
        print(f"left out: {file} was fitted for other weights; fit it again: {fit}", file=sys.stderr)
        return {}
    return {f"models/{CALIBRATION}": _read(file)}


# ---- files -----------------------------------------------------------------------------------------------------------


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, and a bundle needs it.")
    return file.read_bytes()


def _package(folder: Path) -> dict[str, bytes]:
    """The package, by path in the bundle."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {f"{folder.name}/{path}": _read(folder / path) for path in paths if not LEFT_OUT.search(path)}


def _requirements(metadata: Mapping[str, Any]) -> bytes:
    """The packages of metadata.json for ``pip install --requirement``."""
    named = {"torch": "pytorch_version", "monai": "monai_version", "numpy": "numpy_version"}
    pins = {package: metadata[key] for package, key in named.items()} | metadata["required_packages_version"]
    return "".join(f"{package}=={version}\n" for package, version in pins.items()).encode()


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for file in sorted(folder.rglob("*.pt")):
        if not ((folder / SHIPPED).is_file() and filecmp.cmp(file, folder / SHIPPED, shallow=False)):
            raise ValueError(
                f"{file} was trained there and would be lost: move it elsewhere, or build into another folder "
                "(--output)."
            )
    part = folder.with_name(f"{folder.name}.part")  # whole or not at all: half a folder would look trained in
    shutil.rmtree(part, ignore_errors=True)
    for path, content in files.items():
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        (part / path).write_bytes(content)
    if folder.exists():
        shutil.rmtree(folder)
    part.replace(folder)


def _write_zip(file: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Stored, not compressed: weights hardly shrink, and compressors differ in their bytes between machines."""
    part = file.with_name(f"{file.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(f"{name}/{path}", ZIP_TIME)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[path])
    part.replace(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "tasks", nargs="*", metavar="TASK", help=f"default: {MAIN_TASK}; there are {', '.join(task_names())}"
    )
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder to write to (default: dist)")
    parser.add_argument("--training-only", action="store_true", help="build a bundle without weights")
    parser.add_argument(
        "--weights-url", default=WEIGHTS_URL, help="address of model.pt in large_files.yml (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        for task in options.tasks or [MAIN_TASK]:
            folder = build(task, options.output, training_only=options.training_only, weights_url=options.weights_url)
            print(f"{folder}: {'training only, no weights' if options.training_only else 'with weights'}")
    except (OSError, ValueError) as error:
        print(f"build_bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
