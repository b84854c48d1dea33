"""Sources and built bundles for tests, and a Python that does not have this package."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAIN = "banet_skin_lesion_segmentation"
TASKS = ("hippocampus", "lung", "polyp")
SECONDS = 600  # a command that takes longer hangs


def copy_sources(folder: Path) -> Path:
    """What a bundle is built from, to be changed by a test."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bundle", folder / "bundle", ignore=ignore)
    shutil.copytree(ROOT / "banet_monai", folder / "banet_monai", ignore=ignore)
    return folder


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """A built bundle, to be changed by a test with ``put`` or by unlinking: the files are hard links."""
    for source in sorted(path for path in bundle.rglob("*") if path.is_file()):
        target = folder / bundle.name / source.relative_to(bundle)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return folder / bundle.name


def put(file: Path, content: bytes | str) -> None:
    """Write a file anew, so that others that share its bytes keep them."""
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def python_without_package(folder: Path) -> Path:
    """A Python with every package of this one but ``banet_monai``.

    It is a new environment that names this one's folder of packages in a ``.pth`` file; the files of that kind which
    lie there, by which an editable installation is found, are not read then.
    """
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = [path for path in site.getsitepackages() if (Path(path) / "monai").is_dir()]
    Path(place.stdout.strip(), "packages.pth").write_text("\n".join(packages) + "\n")
    return python


def run_in(folder: Path, python: Path | str, *words: str, expect: int = 0, path: Sequence[Path] = ()) -> str:
    """Run ``python <words>`` in ``folder`` and return what it printed.

    Args:
        folder: working directory.
        python: interpreter.
        words: its arguments.
        expect: exit code.
        path: PYTHONPATH; nothing else of the caller's is in it.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        [str(python), *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == expect, f"exit code {done.returncode} of {words} in {folder}\n{done.stdout[-6000:]}"
    return done.stdout
