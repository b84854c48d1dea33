"""The folder of the application that MONAI Label runs: its own ``monaibundle``, our additions, links to archives."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from banet_monai.label.environment import ANEW, Environment

__all__ = ["ASGI", "Application", "lay_out"]

STOCK = "monaibundle"
STOCK_MAIN = "monaibundle_main.py"
BESIDE = {"bundles", "studies"}  # what 'banet label' puts there before
OWN_FILES = Path(__file__).with_name("app")
ASGI = "banet_asgi:app"  # module of the application folder and its attribute, as uvicorn takes them


@dataclass(frozen=True)
class Application:
    """A folder that ``monailabel start_server --app`` takes.

    Attributes:
        folder: its absolute path.
        models: names of the bundles linked in its folder ``model``.
    """

    folder: Path
    models: tuple[str, ...]


def lay_out(folder: Path, environment: Environment, archives: Sequence[Path]) -> Application:
    """Make or refresh an application folder.

    MONAI Label's ``monaibundle`` is copied out of the environment, without the internet; its ``main.py`` becomes
    ``monaibundle_main.py``, which ours builds on. Each archive is linked as ``model/<name>``, so that what is trained
    in the server lies in the archive.

    Args:
        folder: of the application.
        environment: that holds MONAI Label.
        archives: folders of built archives.

    Raises:
        FileExistsError: when something else has the place of the folder or of a link.
        FileNotFoundError: when the environment lacks MONAI Label's application.
        ValueError: when two archives have one name.
    """
    place = folder.absolute()
    names = [archive.name for archive in archives]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two archives are called '{repeated[0]}', and models are served by name; rename one folder.")
    require_free_folder(folder)
    _copy_stock(place, environment)
    for file in sorted(OWN_FILES.glob("*.py")):
        shutil.copyfile(file, place / file.name)
    (place / "model").mkdir(exist_ok=True)
    for archive in archives:
        _link(place / "model" / archive.name, archive.resolve())
    return Application(place, tuple(names))


def require_free_folder(folder: Path) -> None:
    """Refuse a folder that is neither free for an application nor holds one; nothing is written.

    Raises:
        FileExistsError: when something else is in it.
    """
    if not folder.exists() or (folder / STOCK_MAIN).is_file():
        return
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= BESIDE:
        return
    raise FileExistsError(f"'{folder}' holds other files; name a folder that is empty or does not exist: --app DIR.")


def _copy_stock(place: Path, environment: Environment) -> None:
    """What ``monailabel apps --download`` does, without the seconds that it takes to start."""
    stock = environment.folder / "monailabel" / "sample-apps" / STOCK
    if not (stock / "main.py").is_file():
        raise FileNotFoundError(f"'{stock}' is missing: the installation of MONAI Label is incomplete. {ANEW}")
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(stock / "main.py", place / STOCK_MAIN)
    shutil.copytree(stock / "lib", place / "lib", dirs_exist_ok=True)


def _link(link: Path, archive: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise FileExistsError(
            f"'{link}' is no link, and an archive of that name is to be linked there; move it elsewhere."
        )
    link.symlink_to(archive, target_is_directory=True)
