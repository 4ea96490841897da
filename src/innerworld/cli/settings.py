"""What `innerworld train` does with settings, whatever it trains from: change them, compare them, tell the last row."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import create_model

from innerworld.config import Config, dotted, override
from innerworld.errors import UserError


def changed(parts: Mapping[str, Config], words: Sequence[str]) -> list[Any]:
    """The parts with the overrides applied; they are one configuration here, so that errors name the whole key."""
    fields: dict[str, Any] = {name: (type(part), part) for name, part in parts.items()}
    settings = create_model("Settings", __base__=Config, **fields)()
    for word in words:
        key = word.partition("=")[0]
        for whole in dotted(settings):
            if whole.partition(".")[2] == key:
                raise UserError(f"unknown key {key!r}. Did you mean {whole!r}?")
    found = dict(override(settings, words))
    return [found[name] for name in parts]


def refuse_difference(folder: Path, part: str, before: Config, now: Config, free: Collection[str] = ()) -> None:
    """Raise `UserError` for the first field that a run was begun with otherwise."""
    old, new = before.model_dump(), now.model_dump()
    for key in old:
        if old[key] != new[key] and key not in free:
            refuse(folder, f"{part}.{key}", old[key], new[key])


def refuse(folder: Path, name: str, was: Any, given: Any) -> NoReturn:
    raise UserError(f"{folder} was begun with {name} {was}, not {given}: leave out {name}, or begin a new run")


def last_row(log: Path) -> dict[str, Any]:
    """What was measured last."""
    lines = log.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[-1]) if lines else {}
    return {name: value for name, value in row.items() if name not in ("step", "time")}


def value_of(words: Sequence[str], flag: str) -> str | None:
    """What is said for a flag beside --help."""
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == flag or word.startswith(f"{flag}="):
            return word.partition("=")[2] or value
    return None
