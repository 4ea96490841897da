"""Who is compared: a family with its preset and settings, written as one word of the command line."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field

from innerworld import models
from innerworld.config import Config, override
from innerworld.errors import UserError, choose
from innerworld.families import first_preset
from innerworld.models import MODELS
from innerworld.recipes.compare.terms import Teaching, refuse_decided

NAME = re.compile(r"([\w.+-]+)=(?=[a-z])(.*)", re.DOTALL)
NO_PRESET = "none"
UNTAUGHT = ("oracle",)  # families with nothing to learn


class Entry(Config):
    """One of those who are compared, with all that was decided for it."""

    name: str = Field(default="", description="what it is called in tables")
    words: str = Field(default="", description="as it was written")
    family: str = Field(default="jepa", description="name in the registry of world models")
    model: dict[str, Any] = Field(default={}, description="the family's configuration, in full")
    teaching: Teaching = Field(default=Teaching(), description="how it is taught, where that is not as for all")

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return as_folder(self.name)


def read_entry(text: str, teaching: Teaching) -> Entry:
    """`[NAME=]FAMILY[:PRESET] [key=value ...]` → the entry. Raises `UserError`.

    Without a preset, the small one of the family (`none`: its defaults). Keys of the teaching (`batch`, `length`,
    `frame_skip`, `train.lr`, …) change how it is taught, all others the family's configuration.
    """
    told = text.strip()
    named = NAME.fullmatch(told)
    name, words = (named[1], named[2]) if named and named[2].split()[0].partition(":")[0] in MODELS else ("", told)
    if not words:
        raise UserError("an entry is a family, as jepa, or rssm:tiny, or 'no-sigreg=jepa:small sigreg=0'")
    first, *settings = words.split()
    family, _, preset = first.partition(":")
    choose("family of world models", family, MODELS)
    if family in UNTAUGHT:
        raise UserError(f"{family} has nothing to learn: it stands beside the others wherever it applies")
    known = Teaching.model_fields
    mine = [word for word in settings if word.partition("=")[0].partition(".")[0] in known]
    rest = [word.removeprefix("model.") for word in settings if word not in mine]
    refuse_decided(mine, "teaching.")
    chosen = None if preset == NO_PRESET else preset or first_preset(family)
    return Entry(
        name=name or " ".join([first, *settings]),
        words=words,
        family=family,
        model=models.config(family, chosen, rest).model_dump(mode="json"),
        teaching=override(teaching, mine),
    )


def read_entries(texts: list[str], teaching: Teaching) -> tuple[Entry, ...]:
    """All of them. Raises `UserError`, also where two have one name."""
    entries = tuple(read_entry(text, teaching) for text in texts)
    folders = [entry.folder for entry in entries]
    for entry in entries:
        if folders.count(entry.folder) > 1:
            raise UserError(f"two entries are called {entry.name!r}: give one a name, as in other={entry.words!r}")
    return entries


def as_folder(name: str) -> str:
    """A name with what no file system minds."""
    return re.sub(r"[^\w.,+=-]+", "_", name)
