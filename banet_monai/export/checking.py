"""Whether a ``.pt2`` file holds numbers and a graph alone: PyTorch would run what else one can put into it.

``torch.export.load`` unpickles whatever the archive holds, evaluates the formulas of sizes and the conditions on inputs
as Python, imports what the structure of the inputs names, and calls any function of PyTorch by its name. Here a file is
read as ``banet export`` writes it, and everything else is refused before any of that happens.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

__all__ = ["UnsafeFileError", "check_program_file", "text_in_archive"]

OLD_PROGRAM = "serialized_exported_program.json"  # of PyTorch before 2.8, in a plain zip file
PROGRAM = re.compile(rf"models/\w+\.json|{OLD_PROGRAM}")
PICKLE = re.compile(r"data/(sample_inputs|weights|constants)/\w+\.pt|serialized_\w+\.pt")
TABLE = re.compile(r"data/(weights|constants)/\w+_config\.json")  # of the files with numbers
INERT = re.compile(  # numbers, and texts that nothing reads as a program
    r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/[\w.-]+|extra_files/[\w.-]+"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment"
)
NUMBERS = re.compile(r"(weight|tensor)_\d+")  # names of their files

PLAIN = re.compile(r"[\w.+]*", re.ASCII)  # a name or a version
OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+(\.\w+)?|_operator\.(\w+)|torch\.sym_\w+|math\.\w+", re.ASCII
)
ARITHMETIC = {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "getitem"}
ARITHMETIC |= {"eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"}
FORMULA = re.compile(r"(?:[\w\s(),='<>+*/-]|(?<=\d)\.(?=\d))*", re.ASCII)  # no attribute, no index
SYMBOL = re.compile(r"[su]\d+", re.ASCII)
WORDS = {"Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CeilDiv"}
WORDS |= {"CleanDiv", "ModularIndexing", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"}
WORDS |= {"Where", "CeilToInt", "FloorToInt", "TruncToInt", "ToFloat", "IntTrueDiv", "FloatTrueDiv", "PowByNatural"}
WORDS |= {"positive", "integer", "nonnegative", "True", "False", "precision", "oo", "int_oo"}
INPUT_SIZE = re.compile(r"L\['x'\]\.size\(\)\[\d\]", re.ASCII)
CONDITION = re.compile(r"[\w\s(),=!<>+*/%-]*", re.ASCII)
CONDITION_WORDS = {"min", "max", "and", "or", "not"}
CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", None}
CONTEXTS = {"null", "[]", None}


class UnsafeFileError(ValueError):
    """The file holds something that would run as a program when it is loaded."""


def text_in_archive(content: bytes, name: str) -> str:
    """An extra text of a file of ``torch.export.save`` or ``torch.jit.save``; "" where there is none.

    Args:
        content: of the file.
        name: of the text, such as ``"banet.json"``.

    Raises:
        ValueError: when the file is no such archive.
    """
    for members in _readings(content):
        for folder in ("extra", "extra_files"):
            if (text := members.get(f"{folder}/{name}")) is not None:
                return text.decode("utf-8")
    return ""


def check_program_file(content: bytes) -> None:
    """Refuse a file of ``torch.export.save`` that is more than numbers and a graph of known operators.

    Args:
        content: of the file.

    Raises:
        UnsafeFileError: naming the part of the file that would run.
        ValueError: when it is no such archive.
    """
    for members in _readings(content):
        for name, data in members.items():
            _check_member(name, data)


def _readings(content: bytes) -> Iterator[dict[str, bytes]]:
    """Content by name, in each of the ways in which PyTorch may take the file: its own archive, and a zip file."""
    readings = 0
    try:
        reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    except RuntimeError:  # of PyTorch before 2.8, or no archive at all
        pass
    else:
        names = reader.get_all_records()
        _refuse_doubles(names)
        yield {name: reader.get_record(name) for name in names}
        readings += 1
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if OLD_PROGRAM in names or "version" in names:
                _refuse_doubles(names)
                yield {name: archive.read(name) for name in names}
                readings += 1
    except zipfile.BadZipFile as error:
        raise ValueError("it is no archive") from error
    if not readings:
        raise ValueError("it is no archive of PyTorch")


def _refuse_doubles(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise UnsafeFileError("two of its parts have one name")


def _check_member(name: str, data: bytes) -> None:
    if PICKLE.fullmatch(name):
        _check_pickle(name, data)
    elif TABLE.fullmatch(name):
        for entry in json.loads(data)["config"].values():
            if entry.get("use_pickle") or not NUMBERS.fullmatch(str(entry.get("path_name"))):
                raise UnsafeFileError(f"its part '{name}' names pickled objects, which could run anything")
    elif PROGRAM.fullmatch(name):
        _check_values(json.loads(data), "")
    elif not INERT.fullmatch(name):
        raise UnsafeFileError(f"its part '{name}' is none that 'banet export' writes")


def _check_pickle(name: str, data: bytes) -> None:
    try:
        if data:
            torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # whatever else a pickle provokes: it is no plain tensors
        raise UnsafeFileError(f"its part '{name}' holds more than tensors and could run anything") from error


def _check_values(value: Any, key: str) -> None:
    """A part of the graph: names, numbers, operators, formulas of sizes, and containers of inputs and outputs."""
    if isinstance(value, Mapping):
        if key == "metadata" and all(isinstance(text, str) for text in value.values()):
            return  # where in the source a step comes from, for people
        for name, inner in value.items():
            _require(_is_plain(name), "name", name)
            _check_values(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, key)
    elif key == "target":
        _require(_is_operator(value), "operator", value)
    elif key in ("in_spec", "out_spec"):
        protocol, structure = json.loads(value)
        _require(protocol == 1 and _is_container(structure), "structure of inputs", value)
    elif isinstance(value, str):
        is_fine = {"expr_str": _is_formula, "as_expr": _is_formula, "guards_code": _is_condition}.get(key, _is_plain)
        _require(is_fine(value), key, value)


def _require(fine: bool, what: str, value: object) -> None:
    if not fine:
        raise UnsafeFileError(f"its graph has the {what} {str(value)[:60]!r}, which could run anything")


def _is_operator(value: object) -> bool:
    found = OPERATOR.fullmatch(str(value))
    return found is not None and (found[2] is None or found[2] in ARITHMETIC)


def _is_plain(text: str) -> bool:
    return PLAIN.fullmatch(text) is not None


def _is_formula(text: str) -> bool:
    """Whether a text is arithmetic of sizes, in the words of sympy."""
    return FORMULA.fullmatch(text) is not None and _has_only(text, WORDS)


def _is_condition(text: str) -> bool:
    """Whether a text compares sizes of the input, in the words of Python."""
    text = INPUT_SIZE.sub("s0", text)
    return CONDITION.fullmatch(text) is not None and _has_only(text, CONDITION_WORDS)


def _has_only(text: str, words: Collection[str]) -> bool:
    return all(word in words or SYMBOL.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", text))


def _is_container(structure: Any) -> bool:
    return (
        structure["type"] in CONTAINERS
        and structure["context"] in CONTEXTS
        and all(map(_is_container, structure["children_spec"]))
    )
