"""Words to flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

from innerworld.cli.flags import parse
from innerworld.cli.verb import Answer, Verb
from innerworld.errors import UserError


@dataclass(frozen=True)
class Flags:
    """Try."""

    name: tyro.conf.Positional[str]
    """who"""
    out: Path
    """where"""
    few: tuple[float, ...] = ()
    """numbers"""
    max_steps: int | None = None
    """how long"""
    append: bool = False
    """whether"""


VERB = Verb(Flags, lambda flags, call: Answer({}, print), takes_overrides=True)
FLAGS_ONLY = Verb(Flags, lambda flags, call: Answer({}, print))


def test_overrides_are_gathered_from_anywhere():
    flags, overrides, given = parse(
        "try", VERB, ["a.b=1", "x", "--out", "o", "c=[1, 2]", "--append", "d=", "--few", "-1", "2"]
    )
    assert flags == Flags("x", Path("o"), (-1.0, 2.0), None, True)
    assert overrides == ["a.b=1", "c=[1, 2]", "d="]
    assert given == {"out", "append", "few"}


def test_the_value_of_a_flag_may_hold_an_equals_sign():
    flags, overrides, _ = parse("try", VERB, ["x", "--out", "lr=1", "k=2"])
    assert flags.out == Path("lr=1")
    assert overrides == ["k=2"]
    assert parse("try", VERB, ["x", "--out=lr=1"])[0].out == Path("lr=1")


def test_underscores_and_dashes_are_alike():
    assert parse("try", VERB, ["x", "--out", "o", "--max_steps", "3"])[0].max_steps == 3
    assert parse("try", VERB, ["x", "--out", "o", "--max-steps=3"])[2] == {"out", "max_steps"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "--uot", "o"], r"^try has no flag --uot. Did you mean '--out'\? See innerworld try --help$"),
        (["x"], "^missing from innerworld try: --out PATH where"),
        (["x", "--out"], "^missing value for argument '--out'"),
        (["x", "--out", "o", "y"], "^unrecognized options: y"),
        (["x", "--out", "o", "-q"], "^unrecognized options: -q"),
        (["x", "--out", "o", "--max-steps", "many"], "parsing --max-steps.*'many'"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_mistakes_are_one_line(words, told, encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with pytest.raises(UserError, match=told) as caught:
        parse("try", VERB, words)
    assert "\n" not in str(caught.value) and "──" not in str(caught.value) and "--- " not in str(caught.value)


def test_a_verb_without_overrides_says_which_flag():
    with pytest.raises(UserError, match=r"takes flags only, not 'max_step=3'. Did you mean '--max-steps'\?"):
        parse("try", FLAGS_ONLY, ["x", "--out", "o", "max_step=3"])
