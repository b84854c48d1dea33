"""Makes the environment of MONAI Label, which needs older packages than ours: its own folder, its own Python.

    python tools/label_environment.py .venv-label

What is there already and fits stays: a second call is over at once. The versions are those of label_constraints.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LabelEnvironmentError", "is_ready", "main", "make", "patch_torchvision"]

CONSTRAINTS = Path(__file__).with_name("label_constraints.txt")
PYTHON = (3, 11)  # the version that the constraints were made with
FIRST = ("setuptools", "wheel", "numpy", "torch")  # what the packages without wheels need to be built
PACKAGES = ("monailabel", "pydicom", "pynetdicom", "dicomweb-client[gcp]", "dcmqi")
STAMP = ".banet-label"
UNFINISHED = "unfinished\n"
META_REGISTRATIONS = "torchvision/_meta_registrations.py"
# operators that a torchvision without its compiled part does not have
FAKE = re.compile(r'^@torch\.library\.register_fake\("torchvision::(\w+)"\)$', re.MULTILINE)
GUARDED = r'@(torch.library.register_fake("torchvision::\1") if torchvision.extension._has_ops() else (lambda fn: fn))'


class LabelEnvironmentError(RuntimeError):
    """The environment cannot be made, and why."""


def make(folder: Path, *, python: str | None = None, with_patch: bool = False) -> bool:
    """Make the environment, unless the one that is there fits.

    Args:
        folder: of the environment; one of this program that does not fit is made anew, any other folder is refused.
        python: interpreter 3.11; by default this one or ``python3.11`` of the path.
        with_patch: see :func:`patch_torchvision`.

    Returns:
        Whether anything was installed.

    Raises:
        LabelEnvironmentError: when there is no Python 3.11, the folder was not made by this program, or pip fails.
    """
    if is_ready(folder, with_patch=with_patch):
        return False
    if is_ready(folder):
        patch_torchvision(folder)
        _write_stamp(folder, with_patch=True)
        return False
    interpreter = _interpreter(python)
    if folder.exists() and not (folder / STAMP).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabelEnvironmentError(
            f"'{folder}' was not made by this program; name a folder that is empty or does not exist."
        )
    _run([interpreter, "-m", "venv", "--clear", str(folder)])
    (folder / STAMP).write_text(UNFINISHED, encoding="utf-8")
    pip = [str(_executable(folder, "python")), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constrained = [*pip, "--constraint", str(CONSTRAINTS)]
    _run([*constrained, *FIRST])
    # without isolation, because pip would fetch another torch to build the packages that have no wheel
    _run([*constrained, "--no-build-isolation", *PACKAGES], {**os.environ, "SAM2_BUILD_CUDA": "0"})
    if with_patch:
        patch_torchvision(folder)
    _write_stamp(folder, with_patch=with_patch)
    return True


def is_ready(folder: Path, *, with_patch: bool = False) -> bool:
    """Whether the environment was made to its end with the present constraints; a patched one serves both wishes."""
    stamp = folder / STAMP
    if not stamp.is_file() or not _executable(folder, "monailabel").is_file():
        return False
    written = stamp.read_text(encoding="utf-8")
    return written == _stamp(with_patch=True) or (not with_patch and written == _stamp(with_patch=False))


def patch_torchvision(folder: Path) -> list[str]:
    """Let the torchvision of an environment import beside a torch that it was not compiled for.

    The wheel of PyPI is compiled for CUDA; beside a CPU build of torch it registers shapes of operators that it could
    not load. They are guarded as torchvision guards its others. MONAI Label needs none of them.

    Returns:
        The operators that were guarded now; none where they already are.

    Raises:
        LabelEnvironmentError: when torchvision is not there.
    """
    found = sorted(folder.glob(f"lib/python*/site-packages/{META_REGISTRATIONS}"))
    if not found:
        raise LabelEnvironmentError(f"there is no torchvision in '{folder}'.")
    text = found[0].read_text(encoding="utf-8")
    found[0].write_text(FAKE.sub(GUARDED, text), encoding="utf-8")
    return FAKE.findall(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the environment, such as .venv-label")
    parser.add_argument("--python", help="interpreter 3.11; by default this one, or python3.11 of the path")
    parser.add_argument(
        "--patch-torchvision",
        action="store_true",
        help="let the torchvision of PyPI import beside a torch without CUDA, where PyTorch's own CPU wheels cannot be "
        "had: two lines in this environment's copy are guarded",
    )
    options = parser.parse_args(arguments)
    if not is_ready(options.folder, with_patch=options.patch_torchvision):
        print(f"Installing MONAI Label into {options.folder} (about 4 GB, some minutes)", flush=True)
    try:
        make(options.folder, python=options.python, with_patch=options.patch_torchvision)
    except LabelEnvironmentError as error:
        print(f"label_environment: error: {error}", file=sys.stderr)
        return 1
    return 0


def _interpreter(wanted: str | None) -> str:
    candidates = [wanted] if wanted else [sys.executable, *filter(None, [shutil.which("python3.11")])]
    for candidate in candidates:
        probe = [candidate, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"]
        try:
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return candidate
        except OSError:
            continue
    raise LabelEnvironmentError(
        f"MONAI Label's versions were tried together on Python {PYTHON[0]}.{PYTHON[1]}, and {' and '.join(candidates)} "
        "is not that; install Python 3.11, or name it: --python PATH."
    )


def _executable(folder: Path, name: str) -> Path:
    return folder / ("Scripts" if os.name == "nt" else "bin") / (f"{name}.exe" if os.name == "nt" else name)


def _stamp(*, with_patch: bool) -> str:
    parts = [CONSTRAINTS.read_bytes(), " ".join((*FIRST, *PACKAGES)).encode(), str(with_patch).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest() + "\n"


def _write_stamp(folder: Path, *, with_patch: bool) -> None:
    (folder / STAMP).write_text(_stamp(with_patch=with_patch), encoding="utf-8")


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-15:]
        raise LabelEnvironmentError("\n".join([f"'{' '.join(command)}' failed:", *said]))


if __name__ == "__main__":
    sys.exit(main())
