"""An entry is one word of the command line: a family, its preset, its settings, and a name."""

from __future__ import annotations

import pytest

from innerworld.errors import UserError
from innerworld.recipes.compare.entry import Entry, read_entries, read_entry
from innerworld.recipes.compare.terms import Teaching


def read(text: str) -> Entry:
    return read_entry(text, Teaching(batch=8))


def test_a_family_alone_has_its_small_preset() -> None:
    entry = read("jepa")
    assert (entry.name, entry.family, entry.teaching.batch) == ("jepa", "jepa", 8)
    assert entry.model == read("jepa:small").model != read("jepa:none latent=3").model


def test_settings_are_the_models_and_those_of_teaching_the_teachings() -> None:
    entry = read("jepa:small model.latent=7 batch=3 train.lr=0.5 length=2")
    assert entry.model["latent"] == 7
    assert (entry.teaching.batch, entry.teaching.length, entry.teaching.train.lr) == (3, 2, 0.5)
    assert entry.name == "jepa:small model.latent=7 batch=3 train.lr=0.5 length=2"
    assert set(entry.folder) <= set("abcdefghijklmnopqrstuvwxyz_.=0123456789") and entry.folder.startswith(
        "jepa_small_"
    )


def test_a_name_may_be_given() -> None:
    entry = read("no-sigreg=jepa:small sigreg=0 std=16")
    assert (entry.name, entry.words, entry.folder) == ("no-sigreg", "jepa:small sigreg=0 std=16", "no-sigreg")
    assert entry.model["sigreg"] == 0 and entry.model["std"] == 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jeppa", "Did you mean 'jepa'"),
        ("jepa:smal", "Did you mean 'small'"),
        ("jepa sigrag=0", "Did you mean 'sigreg'"),
        ("jepa batch", "write overrides as key=value"),
        ("jepa batch=0", "batch"),
        ("jepa train.steps=9", "decided by --budget"),
        ("oracle", "nothing to learn"),
        ("vjepa", "unknown family"),  # eyes are no world models
        ("", "an entry is a family"),
    ],
)
def test_what_cannot_be_meant(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(text)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two entries are called 'a'"):
        read_entries(["a=jepa", "a=rssm"], Teaching())
