"""The bundle and its tasks as files: which configurations a task consists of and where its weights lie.

Nothing is instantiated and torch is not imported, so that looking is quick; MONAI's ``ConfigParser`` reads the same
files when something is to be run.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Bundle", "Task", "config_names", "find_bundle", "nearest", "with_hint"]

MAIN_TASK = "skin_lesion"
SEPARATOR = "::"
# the one expression that configurations use for weights inside the bundle
IN_BUNDLE = re.compile(r"""\$@bundle_root \+ (?P<quote>['"])/?(?P<path>[^'"]+)(?P=quote)""")


@dataclass(frozen=True)
class Task:
    """One thing that a bundle can segment.

    Attributes:
        name: such as ``"skin_lesion"``.
        folder: folder of its configuration: the bundle's own for the main task, else one in ``tasks/``.
        bundle: folder of the bundle.
    """

    name: str
    folder: Path
    bundle: Path

    @property
    def is_main(self) -> bool:
        """Whether the bundle's own configuration is the task's."""
        return self.folder == self.bundle

    def configs(self, *, evaluate: bool = False) -> list[Path]:
        """Configuration files of inference (and evaluation), later ones overriding earlier ones."""
        files: list[Path] = []
        for name in ("inference.json", "evaluate.json") if evaluate else ("inference.json",):
            files.append(self.bundle / "configs" / name)
            if not self.is_main and (self.folder / name).is_file():
                files.append(self.folder / name)
        return files

    def config(self, *, evaluate: bool = False) -> dict[str, Any]:
        """The configuration as plain JSON: references and expressions are text.

        Raises:
            FileNotFoundError: when a file is missing.
            ValueError: naming the file, when it is no JSON object.
        """
        merged: dict[str, Any] = {}
        for file in self.configs(evaluate=evaluate):
            for name, value in _read_object(file).items():
                _put(merged, name.split(SEPARATOR), value)
        return merged

    def weights(self) -> Path | None:
        """Where the weights should lie, there or not; None where an expression of the configuration decides.

        ``model.pt`` beside the task's configuration comes first. A relative path counts from the working directory or,
        where nothing is there, from the folder that holds the bundle.
        """
        if not self.is_main and (self.folder / "model.pt").is_file():
            return self.folder / "model.pt"
        checkpoint = str(self.config().get("checkpoint", ""))
        if inside := IN_BUNDLE.fullmatch(checkpoint):
            return self.bundle / inside["path"]
        if not checkpoint or checkpoint.startswith(("$", "@", "%")):
            return None
        beside_bundle = self.bundle.parent / checkpoint
        return beside_bundle if beside_bundle.is_file() and not Path(checkpoint).is_file() else Path(checkpoint)


@dataclass(frozen=True)
class Bundle:
    """Folder of a MONAI bundle with ``configs/inference.json``."""

    root: Path

    def main_task(self) -> str:
        """Name of the task of the bundle's own configuration."""
        name = _read_object(self.root / "configs" / "inference.json").get("task", MAIN_TASK)
        return name if isinstance(name, str) else MAIN_TASK

    def tasks(self) -> list[Task]:
        """The main task, then those in ``tasks/`` by name."""
        folders = sorted(path.parent for path in self.root.glob("tasks/*/inference.json"))
        return [Task(self.main_task(), self.root, self.root), *(Task(f.name, f, self.root) for f in folders)]

    def task(self, name: str | None = None) -> Task:
        """A task by its name or by the path of its folder; without a name the main one.

        Raises:
            ValueError: for an unknown one, with the nearest and all known.
        """
        tasks = {task.name: task for task in reversed(self.tasks())}
        if name is None:
            return tasks[self.main_task()]
        if name in tasks:
            return tasks[name]
        folder = Path(name)
        if folder.is_dir() and folder.resolve() == self.root.resolve():
            return tasks[self.main_task()]
        if (folder / "inference.json").is_file():
            return Task(folder.resolve().name, folder, self.root)
        known = ", ".join(task.name for task in self.tasks())
        problem = f"the folder '{name}' has no inference.json" if folder.is_dir() else f"there is no task '{name}'"
        raise ValueError(
            with_hint(problem, name, tasks, end=f"; there are {known}, and folders with an inference.json.")
        )

    def metadata(self) -> dict[str, Any]:
        """Content of ``configs/metadata.json``; empty where there is none."""
        file = self.root / "configs" / "metadata.json"
        return _read_object(file) if file.is_file() else {}


def find_bundle(folder: str | Path | None = None) -> Bundle:
    """The bundle in ``folder``, by default the one that lies beside this package (in a clone or an archive).

    Raises:
        FileNotFoundError: when there is none.
    """
    above = Path(__file__).resolve().parent.parent
    for root in (above / "bundle", above) if folder is None else (Path(folder),):
        if (root / "configs" / "inference.json").is_file():
            return Bundle(root)
    if folder is None:
        raise FileNotFoundError("no bundle lies beside the installed package; give its folder: --bundle DIR.")
    raise FileNotFoundError(f"'{folder}' is no bundle: it has no configs/inference.json.")


def config_names(config: Any, prefix: str = "") -> Iterator[str]:
    """Every name in a configuration, nested ones as ``outer::inner``."""
    entries = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in entries:
        name = f"{prefix}{SEPARATOR}{key}" if prefix else str(key)
        yield name
        yield from config_names(value, name)


def nearest(word: str, known: Iterable[str]) -> str:
    """The most similar of the known words, "" where none is similar."""
    spelled = {name.casefold().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.casefold().replace("-", "_"), spelled, n=1, cutoff=0.5)
    return spelled[found[0]] if found else ""


def with_hint(problem: str, word: str, known: Iterable[str], *, end: str = ".") -> str:
    """``problem``, the question whether the nearest known word was meant, and ``end``."""
    match = nearest(word, known)
    return f"{problem} (did you mean '{match}'?){end}" if match else f"{problem}{end}"


def _put(config: Any, keys: Sequence[str], value: Any) -> None:
    """Set a nested entry; one that hangs on a missing parent is left to MONAI to refuse."""
    for key in keys[:-1]:
        config = config.get(key) if isinstance(config, dict) else _element(config, key)
    if isinstance(config, dict):
        config[keys[-1]] = value
    elif isinstance(config, list) and _element(config, keys[-1]) is not None:
        config[int(keys[-1])] = value


def _element(items: Any, key: str) -> Any:
    inside = isinstance(items, list) and key.isdecimal() and int(key) < len(items)
    return items[int(key)] if inside else None


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the configuration '{file}' is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"the configuration '{file}' must be a JSON object.")
    return content
