"""How commands are spelled: values with a hint at the nearest right one, and errors that fit on one line."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from banet_monai.bundles import nearest, with_hint

__all__ = [
    "DEBUG_VARIABLE",
    "DONE",
    "INTERRUPTED",
    "SOME_FAILED",
    "CommandGroup",
    "NearestChoice",
    "Setting",
    "SeveralChoices",
    "Share",
    "StoreCommand",
    "WorkError",
    "debugging",
    "print_error",
    "print_failure",
    "print_warning",
    "printable",
    "shown",
]

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130  # exit codes; click's own for wrong use is 2
DEBUG_VARIABLE = "BANET_DEBUG"
HTTP = ("http://", "https://")


class WorkError(click.ClickException):
    """What was asked for is right, but could not be done: exit code 1."""

    exit_code = SOME_FAILED


class CommandGroup(click.Group):
    """Commands whose errors are one line on stderr, with exit codes 1 (failed), 2 (wrong use) and 130 (Ctrl-C)."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Unknown commands are answered with the nearest one."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            commands = ", ".join(self.list_commands(ctx))
            ctx.fail(with_hint(f"there is no command '{name}'", name, self.commands, end=f"; there are {commands}."))
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> int:
        """Run a command and end the process with its exit code, or return the code if not ``standalone_mode``."""
        try:
            extra["windows_expand_args"] = windows_expand_args
            result = super().main(args, prog_name or "banet", complete_var, False, **extra)
            code = result if isinstance(result, int) else DONE
        except click.ClickException as error:
            _show_traceback()
            print_error(_in_one_line(error))
            code = error.exit_code
        except click.Abort:
            print_error("interrupted.")
            code = INTERRUPTED
        except Exception as error:
            _show_traceback()
            print_error(f"unexpected {_kind_and_place(error)}; {DEBUG_VARIABLE}=1 shows more.")
            code = SOME_FAILED
        if standalone_mode:
            sys.exit(code)
        return code


class NearestChoice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.4
    """One of some words; a wrong one is answered with the nearest."""

    name = "choice"

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """The problem, the nearest choice and all of them."""
        return wrong_choice(str(value), [str(choice) for choice in self.choices])


class SeveralChoices(click.ParamType):  # type: ignore[type-arg]
    """Words of a list with commas between them, as a tuple; a wrong one is answered with the nearest."""

    name = "list"

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = tuple(choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The words, each of them known."""
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        for word in words:
            if word not in self.choices:
                self.fail(wrong_choice(word, self.choices), param, ctx)
        return words


class Setting(click.ParamType):  # type: ignore[type-arg]
    """``NAME=VALUE`` as a pair; the value is JSON where it parses as JSON, else text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Name and value."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, text = str(value).partition("=")
        if not equals or not name.strip():
            self.fail(f"'{value}' is not NAME=VALUE, such as threshold=0.4.", param, ctx)
        try:
            return name.strip(), json.loads(text, parse_constant=_refuse_constant)
        except ValueError:
            return name.strip(), text


class Share(click.FloatRange):
    """A number from 0 to 1. NaN, which no range of click leaves out, is none."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"'{value}' is no number from 0 to 1.", param, ctx)
        return number


class StoreCommand(click.Command):
    """A command with ``--store [URL]``: a word that is no http address after it is not its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``--store`` without an address becomes ``--store=``."""
        spelled = list(args)
        end = spelled.index("--") if "--" in spelled else len(spelled)
        for index, word in enumerate(spelled[:end]):
            following = spelled[index + 1] if index + 1 < end else ""
            if word == "--store" and not following.lower().startswith(HTTP):
                spelled[index] = "--store="
        return super().parse_args(ctx, spelled)


def wrong_choice(word: str, choices: Sequence[str]) -> str:
    """What to say about a word that is none of the choices."""
    return with_hint(f"'{word}' is none of {', '.join(choices)}", word, choices)


def print_error(text: str) -> None:
    """``banet: error: text`` on stderr."""
    click.echo(f"banet: error: {text}", err=True)


def print_failure(name: str, reason: str) -> None:
    """``banet: failed: name: reason`` on stderr, on one line whatever a file is called."""
    click.echo(f"banet: failed: {printable(name)}: {printable(reason)}", err=True)


def printable(text: str) -> str:
    """A file name may hold line breaks, commands for the terminal and bytes that are no text."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def print_warning(text: str) -> None:
    """``banet: warning: text`` on stderr."""
    click.echo(f"banet: warning: {text}", err=True)


def shown(path: Path) -> Path:
    """A path as people would type it: relative where it lies below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def debugging() -> bool:
    """Whether tracebacks and the logs of the libraries are wanted: ``BANET_DEBUG`` is set and not 0."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def _show_traceback() -> None:
    if debugging():
        traceback.print_exc()


def _in_one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = [name for param in error.ctx.command.params for name in param.opts if name.startswith("--")]
        match = nearest(error.option_name, options)
        hint = f" (did you mean '{match}'?)" if match else ""
        return f"there is no option '{error.option_name}'{hint}; '{error.ctx.command_path} --help' lists all."
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        return f"{message.rstrip('.')}; '{error.ctx.command_path} --help' shows how it is used."
    return message


def _kind_and_place(error: BaseException) -> str:
    """Kind and place of an error. Its words may quote what a file holds and are left out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")  # NaN and Infinity stay text
