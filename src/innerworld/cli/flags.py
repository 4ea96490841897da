"""Words to flags: tyro reads them, `key=value` words are gathered apart, and every mistake is one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import fields
from io import StringIO
from typing import Any

import tyro
from rich.console import Console

from innerworld.cli.verb import Verb
from innerworld.errors import UserError, nearest

OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")
STYLE = (tyro.conf.FlagCreatePairsOff,)


def parse(name: str, verb: Verb, words: Sequence[str]) -> tuple[Any, list[str], frozenset[str]]:
    """The flags of a verb, the `key=value` words, and the names of the flags that were written out.

    Raises `UserError` for an unknown flag (naming the nearest), a missing one, a value of the wrong type, and
    `key=value` where the verb takes none.
    """
    flags, overrides = _part(words, _switches(verb))
    _refuse_unknown(name, verb, flags)
    if overrides and not verb.takes_overrides:
        raise UserError(f"{name} takes flags only, not {overrides[0]!r}.{_flag_for(verb, overrides[0])}")
    told = StringIO()
    try:
        with redirect_stderr(told), redirect_stdout(told):
            values = tyro.cli(verb.flags, args=flags, prog=f"innerworld {name}", config=STYLE)
    except SystemExit:
        raise UserError(f"{_first_sentence(told.getvalue())}. See innerworld {name} --help") from None
    return values, overrides, frozenset(_field(word) for word in flags if word.startswith("--"))


def show_help(name: str, verb: Verb, words: Sequence[str]) -> None:
    """Print the verb's flags, then what it has to add for these words."""
    console = Console()
    with suppress(SystemExit):  # with which tyro ends its help
        tyro.cli(verb.flags, args=["--help"], prog=f"innerworld {name}", config=STYLE)
    if verb.after_help is not None:
        verb.after_help(console, words)


def _part(words: Sequence[str], switches: set[str]) -> tuple[list[str], list[str]]:
    """Flags and overrides apart. The word after a flag that wants a value is that value, even if it has a `=`."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        is_value = before.startswith("--") and "=" not in before and _field(before) not in switches
        (overrides if OVERRIDE.match(word) and not is_value else flags).append(word)
    return flags, overrides


def _switches(verb: Verb) -> set[str]:
    return {field.name for field in fields(verb.flags) if field.default is False}


def _refuse_unknown(name: str, verb: Verb, flags: Sequence[str]) -> None:
    known = {field.name: "--" + field.name.replace("_", "-") for field in fields(verb.flags)}
    for word in flags:
        if word.startswith("--") and _field(word) not in known:
            flag = word.partition("=")[0]
            raise UserError(
                f"{name} has no flag {flag}.{nearest(flag, list(known.values()))} See innerworld {name} --help"
            )


def _flag_for(verb: Verb, override: str) -> str:
    return nearest(
        "--" + override.partition("=")[0], ["--" + field.name.replace("_", "-") for field in fields(verb.flags)]
    )


def _field(flag: str) -> str:
    return flag.partition("=")[0].removeprefix("--").replace("-", "_")


def _first_sentence(box: str) -> str:
    """What tyro says in its frame between the title and the next rule; the frame is `│ ─`, or blanks and `-`."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("-─")]
    start = rules.pop(0) + 1 if rules and rules[0] == 0 else 0
    sentence = " ".join(" ".join(lines[start : rules[0] if rules else None]).split()).rstrip(".")
    return sentence[:1].lower() + sentence[1:]
