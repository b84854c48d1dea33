"""Brings back the weights that shipped with a bundle, after training has replaced them.

    python -m banet_monai.restore            # in the folder of the bundle
    python -m banet_monai.restore BUNDLE     # from elsewhere

In an archive of the model zoo training writes ``models/model.pt``, where inference, MONAI Label and the zoo look;
a copy of the shipped file stays in ``models/shipped/``.
"""

from __future__ import annotations

import filecmp
import hashlib
import shutil
from pathlib import Path

import click

from banet_monai.bundles import find_bundle
from banet_monai.files import write_beside

__all__ = ["SHIPPED", "TRAINED", "main", "restore_shipped_weights"]

WEIGHTS = Path("models", "model.pt")
SHIPPED = Path("models", "shipped", "model.pt")
TRAINED = Path("models", "trained")  # MONAI Label lists models/*.pt, so it does not see what lies deeper


def restore_shipped_weights(bundle: str | Path) -> Path | None:
    """Make ``models/model.pt`` the shipped file again; what was there is kept in ``models/trained/``.

    Args:
        bundle: folder of a built bundle.

    Returns:
        Where the replaced weights now lie; None where there was nothing to replace.

    Raises:
        FileNotFoundError: when the folder is no bundle or ships no weights; then nothing is touched.
        OSError: when a file cannot be written.
    """
    root = find_bundle(bundle).root
    weights, shipped = root / WEIGHTS, root / SHIPPED
    if not shipped.is_file():
        raise FileNotFoundError(
            f"'{shipped}' does not exist, so there are no weights to restore: in a clone training never replaces the "
            "shipped ones, and a bundle that only trains has none."
        )
    if weights.is_file() and filecmp.cmp(weights, shipped, shallow=False):
        return None
    kept = None
    if weights.is_file():
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        kept = root / TRAINED / f"{digest[:12]}.pt"  # named by content: nothing is ever overwritten by something else
        write_beside(kept, lambda path: shutil.copyfile(weights, path))
    write_beside(weights, lambda path: shutil.copyfile(shipped, path))
    return kept


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
def main(bundle: Path | None) -> None:
    """Bring back the weights that shipped with BUNDLE (default: the one that this package is part of)."""
    try:
        root = find_bundle(bundle).root
        kept = restore_shipped_weights(root)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{root / WEIGHTS} is the shipped file." + (f" Kept: {kept}" if kept else ""))


if __name__ == "__main__":
    main(prog_name="python -m banet_monai.restore")
