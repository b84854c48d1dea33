"""Training and validation cases of a folder or a data list, as MONAI data dictionaries.

Four layouts are recognised:

* ``train/`` and ``val/`` (or ``validation/``), each with ``images/`` and ``masks/`` (or ``labels/``): the split stays;
* ``images/`` and ``masks/`` in the folder itself or in ``train/`` alone: a validation part is split off;
* the Medical Segmentation Decathlon: ``dataset.json``, or ``imagesTr/`` and ``labelsTr/`` without it;
* a CSV or JSON data list with paths relative to its own folder, see :func:`banet_monai.data.listfiles.read_data_list`.

``images/NAME.*`` belongs to ``masks/NAME.*``; the mask's name may end in ``_mask``, ``_segmentation`` or ``_seg``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

from banet_monai.data.cases import Case, Inventory, case_number, named
from banet_monai.data.listfiles import read_data_list
from banet_monai.data.splits import divided_groups, read_val_ids, validation_indices
from banet_monai.flags import as_flag, as_number, as_whole

__all__ = ["IMAGE_SUFFIXES", "find_cases", "split_cases", "training_cases", "validation_cases"]

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")
MASK_ENDINGS = ("", "_mask", "_segmentation", "_seg")
MASK_FOLDERS = ("masks", "labels")
VALIDATION_FOLDERS = ("val", "validation")

LAYOUTS = (
    "'images/' with 'masks/' (or 'labels/'), 'train/' and 'val/' with these two in each, 'imagesTr/' with 'labelsTr/', "
    "a Decathlon 'dataset.json', or give the path of a CSV or JSON data list"
)


def training_cases(
    dataset_dir: str,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    val_ids: str | None = None,
    fold: int = 0,
    limit: int | None = None,
) -> list[dict[str, str]]:
    """Cases to train on, sorted by name.

    Args:
        dataset_dir: folder in one of the layouts above, or a CSV or JSON data list.
        val_fraction: share of the cases split off for validation where the data bring no split, 0 to 1 (all).
        seed: seed of that split.
        val_ids: file that names the validation cases (see :func:`read_val_ids`); it comes before every other split.
        fold: validation fold, where a data list has a ``fold`` column.
        limit: keep only the first so many cases.

    Returns:
        Data dictionaries ``{"image": path, "label": path, "name": name}``; the other cases are those of
        :func:`validation_cases` with the same arguments.

    Raises:
        FileNotFoundError: when the folder, the list or a file named there does not exist, or there is no case in it.
        ValueError: when a file has no partner, two files share a name, or a patient stands on both sides of the split.
    """
    return _side(dataset_dir, False, val_fraction=val_fraction, seed=seed, val_ids=val_ids, fold=fold, limit=limit)


def validation_cases(
    dataset_dir: str,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    val_ids: str | None = None,
    fold: int = 0,
    limit: int | None = None,
    no_paths: bool | str = False,
) -> list[dict[str, str]]:
    """Cases to validate on, sorted by name: the complement of :func:`training_cases` with the same arguments.

    With ``no_paths`` they are named by number (``case-0001``), for names that tell who the patient is.
    """
    items = _side(dataset_dir, True, val_fraction=val_fraction, seed=seed, val_ids=val_ids, fold=fold, limit=limit)
    if as_flag(no_paths, "no_paths"):
        items = [{**item, "name": case_number(number)} for number, item in enumerate(items, start=1)]
    return items


def _side(
    dataset_dir: str,
    validation: bool,
    *,
    val_fraction: float,
    seed: int,
    val_ids: str | None,
    fold: int,
    limit: int | None,
) -> list[dict[str, str]]:
    val_fraction = as_number(val_fraction, "val_fraction")
    if limit is not None and as_number(limit, "limit") < 1:
        raise ValueError(f"limit must be at least 1, or null for all cases, got {limit}.")
    limit = None if limit is None else as_whole(limit, "limit")
    inventory = find_cases(dataset_dir)
    if inventory.problems:
        raise ValueError(f"'{dataset_dir}' cannot be used: {named(inventory.problems)}.")

    chosen = split_cases(inventory.cases, val_fraction=val_fraction, seed=seed, val_ids=val_ids, fold=fold)[validation]
    if not chosen:
        side = "validation" if validation else "training"
        raise ValueError(
            f"'{dataset_dir}' leaves no {side} case of {len(inventory.cases)}: "
            f"check its split, val_fraction (now {val_fraction}), val_ids and fold."
        )
    return [case.as_item() for case in chosen[:limit]]


def split_cases(
    cases: list[Case], *, val_fraction: float = 0.1, seed: int = 0, val_ids: str | None = None, fold: int = 0
) -> tuple[list[Case], list[Case]]:
    """Divide cases into (training, validation), each sorted by name.

    The first of these that is there decides: ``val_ids``, the split of the data, a ``val_fraction`` of 1 (which takes
    all of them), their folds, ``val_fraction``. Cases that the data set aside for testing are in neither part.

    Raises:
        ValueError: when ``val_ids`` names unknown cases or a name that stands twice, only some cases have a split or
            fold, no case is of this fold, or a group is divided.
    """
    cases = sorted((case for case in cases if case.split != "test"), key=lambda case: (case.name, case.image))
    groups = [case.group for case in cases]
    if val_ids is not None:
        chosen = _listed(cases, val_ids)
    elif _all_or_none([case.split for case in cases], "split"):
        chosen = {index for index, case in enumerate(cases) if case.split == "val"}
    elif val_fraction == 1:  # to evaluate all of it
        chosen = set(range(len(cases)))
    elif _all_or_none([case.fold for case in cases], "fold"):
        chosen = {index for index, case in enumerate(cases) if case.fold == str(fold)}
        if not chosen:
            raise ValueError(f"no case is of fold {fold}, there are: {named(sorted({case.fold for case in cases}))}.")
    else:
        known = _all_or_none(groups, "group")
        chosen = validation_indices(
            [c.name for c in cases], groups if known else None, val_fraction=val_fraction, seed=seed
        )
    if divided := divided_groups(groups, chosen):
        raise ValueError(f"groups (patients, sequences) stand in training and in validation: {named(divided)}.")
    training = [case for index, case in enumerate(cases) if index not in chosen]
    return training, [cases[index] for index in sorted(chosen)]


def _all_or_none(values: list[str], column: str) -> bool:
    given = sum(bool(value) for value in values)
    if 0 < given < len(values):
        raise ValueError(
            f"'{column}' is given for {given} of {len(values)} cases: give it for all of them or for none."
        )
    return given > 0


def _listed(cases: list[Case], val_ids: str) -> set[int]:
    wanted = {unicodedata.normalize("NFC", name) for name in read_val_ids(val_ids)}
    names = [unicodedata.normalize("NFC", case.name) for case in cases]
    if unknown := sorted(wanted - set(names)):
        raise ValueError(f"'{Path(val_ids).name}' lists validation cases that the data do not hold: {named(unknown)}.")
    if twice := [name for name, count in Counter(names).items() if count > 1 and name in wanted]:
        raise ValueError(
            f"'{Path(val_ids).name}' lists cases whose name stands twice in the data, as in train/ and in val/: "
            f"{named(sorted(twice))}; rename one of each, or use the split that the data bring."
        )
    return {index for index, name in enumerate(names) if name in wanted}


def find_cases(dataset_dir: str | Path) -> Inventory:
    """Find the image and mask pairs of a folder or a data list, without opening the images.

    Args:
        dataset_dir: folder in one of the module's layouts, or a CSV or JSON data list.

    Returns:
        The cases, and the problems (files without a partner, names that stand twice), each in words.

    Raises:
        FileNotFoundError: when nothing is there, or a data list names a file that is not.
        ValueError: when the layout is not one of those above, or the data list cannot be understood.
    """
    root = Path(dataset_dir)
    if root.is_file():
        return read_data_list(root)
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder or list '{root}' does not exist (looked from '{Path.cwd()}').")

    if (root / "dataset.json").is_file():
        in_folders = any((root / name).is_dir() for name in ("imagesTr", "images", "train"))
        listed = read_data_list(root / "dataset.json", folders_hold_cases=in_folders)
        if listed.cases or listed.problems:
            return listed
    if (root / "imagesTr").is_dir():
        found = _pairs(root / "imagesTr", root / "labelsTr")
    elif (root / "images").is_dir():
        found = _pairs(root / "images", _mask_folder(root))
    elif (root / "train").is_dir():
        found = _split_folders(root)
    else:
        content = "it is empty" if not any(root.iterdir()) else f"it holds {named(_visible(root))}"
        raise FileNotFoundError(f"no data set in '{root}': {content}. What works: {LAYOUTS}.")
    if not found.cases and not found.problems:
        raise FileNotFoundError(f"no image in the folders of '{root}'; readable are {', '.join(IMAGE_SUFFIXES)}.")
    return found


def _split_folders(root: Path) -> Inventory:
    validation = [root / name for name in VALIDATION_FOLDERS if (root / name).is_dir()]
    if len(validation) > 1:
        raise ValueError(f"'{root}' has both 'val/' and 'validation/': keep one of them.")
    training = _pairs(root / "train" / "images", _mask_folder(root / "train"))
    if not validation:
        return training
    held = _pairs(validation[0] / "images", _mask_folder(validation[0]))
    cases = [c.on_side("train") for c in training.cases] + [c.on_side("val") for c in held.cases]
    return Inventory(cases, training.problems + held.problems)


def _mask_folder(folder: Path) -> Path:
    present = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(present) != 1:
        found = "both" if present else "neither"
        raise ValueError(f"'{folder}' needs 'masks/' or 'labels/' beside 'images/' and has {found} of them.")
    return present[0]


def _pairs(images: Path, masks: Path) -> Inventory:
    """Pair the files of two folders by name; what has no partner becomes a problem."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"the folder '{folder}' does not exist.")
    problems: list[str] = []
    pictures, labels = _by_stem(images, problems), _by_stem(masks, problems)
    cases = []
    unused = dict(labels)
    for stem, image in pictures.items():
        candidates = (stem + ending for ending in MASK_ENDINGS)
        partner = next((c for c in candidates if c in labels and (c == stem or c not in pictures)), None)
        if partner is None:
            problems.append(f"{images.name}/{image.name} has no mask in {masks.name}/")
        else:
            cases.append(Case(str(image), str(labels[partner]), stem))
            unused.pop(partner, None)
    unread = {path.stem: path.name for path in _visible_paths(images) if not _readable_suffix(path)}
    for stem, path in unused.items():
        problem = f"{masks.name}/{path.name} has no image in {images.name}/"
        if other := next((unread[s] for s in map(stem.removesuffix, MASK_ENDINGS) if s in unread), ""):
            problem += f" ({other} is of a kind that is not read; {', '.join(IMAGE_SUFFIXES)} are)"
        problems.append(problem)
    return Inventory(cases, problems)


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _visible_paths(folder):
        suffix = _readable_suffix(path)
        if not suffix or path.is_dir():
            if path.is_dir():
                problems.append(
                    f"{folder.name}/{path.name}/ is a folder: put the files side by side or use a data list"
                )
            continue
        stem = unicodedata.normalize("NFC", path.name[: -len(suffix)])  # macOS writes accents in two characters
        if stem in found:
            problems.append(f"{folder.name}/ holds {found[stem].name} and {path.name}: one name, two files")
        found.setdefault(stem, path)
    return found


def _readable_suffix(path: Path) -> str:
    return next((suffix for suffix in IMAGE_SUFFIXES if path.name.lower().endswith(suffix)), "")


def _visible_paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _visible(folder: Path) -> list[str]:
    return [path.name + ("/" if path.is_dir() else "") for path in _visible_paths(folder)]
