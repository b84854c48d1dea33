"""Pushes a built bundle to the Hugging Face Hub, where the model zoo hosts its bundles.

    python tools/push_bundle.py dist/banet_skin_lesion_segmentation --repo OWNER/NAME --dry-run
    hf auth login
    python tools/push_bundle.py dist/banet_skin_lesion_segmentation --repo OWNER/NAME

It needs the package huggingface_hub, whose stored login is used. The version becomes a tag, which stays where it is,
and ``latest_version``, which ``monai.bundle.download`` takes by default, moves to it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file can be started by its path

from tools.zoo.file_checks import FILE_CHECKS, problems_of  # noqa: E402

__all__ = ["main", "push"]

LATEST = "latest_version"  # tag that MONAI downloads by default


def push(bundle: Path, repo: str, *, private: bool = True, dry_run: bool = False) -> str:
    """Push a bundle whose files pass the checks of the zoo.

    Args:
        bundle: folder that ``build_bundle.py`` has made; nothing in it is changed.
        repo: ``"OWNER/NAME"``; it is made where it does not exist.
        private: whether a new repository is private.
        dry_run: check everything and send nothing.

    Returns:
        What was done, or would be, for people to read.

    Raises:
        ImportError: when huggingface_hub is not installed.
        ValueError: when a check of the files fails, ``repo`` is not of that form or holds this version already.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"--repo must be OWNER/NAME, got '{repo}'.")
    problems = [f"{name}: {problem}" for name in FILE_CHECKS for problem in problems_of(name, bundle)]
    if problems:
        raise ValueError("the bundle is not ready, nothing was sent:\n  " + "\n  ".join(problems))
    version = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    files = [path for path in bundle.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    done = f"{len(files)} files of {bundle.name}, {size:.1f} MB, as {repo} with the tags {version} and {LATEST}"
    if dry_run:
        return f"Would push {done}; nothing was sent."

    from monai.bundle import push_to_hf_hub  # takes seconds
    from monai.utils import optional_import

    if not optional_import("huggingface_hub")[1]:
        raise ImportError("pushing needs huggingface_hub: python -m pip install huggingface_hub, then hf auth login.")
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    tags = [tag.name for tag in hub.list_repo_refs(repo).tags] if hub.repo_exists(repo) else []
    if version in tags:
        raise ValueError(f"{repo} holds version {version} already, nothing was sent: give the bundle the next version.")
    with tempfile.TemporaryDirectory() as folder:  # MONAI writes a card for the Hub into the folder that it pushes
        shutil.copytree(bundle, Path(folder) / bundle.name)
        address = push_to_hf_hub(
            repo=repo,
            name=bundle.name,
            bundle_dir=folder,
            private=private,
            version=version,
        )
    if LATEST in tags:  # the Hub moves no tag, and neither does MONAI
        hub.delete_tag(repo_id=repo, tag=LATEST)
    hub.create_tag(repo_id=repo, tag=LATEST)
    return f"Pushed {done}: {address}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="folder that build_bundle.py has made")
    parser.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="repository on the Hub, made where it is missing"
    )
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and send nothing")
    options = parser.parse_args(arguments)
    try:
        print(push(options.bundle, options.repo, private=not options.public, dry_run=options.dry_run))
    except (ImportError, OSError, ValueError) as error:
        print(f"push_bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
