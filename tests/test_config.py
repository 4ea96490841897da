"""Configurations: wrong keys and values are named, with the nearest right one."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator, model_validator

from innerworld.config import Config, build, differences, override
from innerworld.errors import UserError, choose, nearest


class Inner(Config):
    width: int = Field(default=4, description="channels", ge=1)
    name: str = Field(default="a", description="a name")


class Outer(Config):
    steps: int = Field(default=10, description="steps")
    rate: float = Field(default=0.1, description="rate")
    sensors: tuple[str, ...] = Field(default=(), description="names")
    inner: Inner = Field(default=Inner(), description="a part")


class Wide(Config):
    width: int = Field(default=4, description="channels")
    deep: Inner = Field(default=Inner(), description="a part")


class Changing(Config):
    """The kind of `part` follows from `kind`; both or neither of `low` and `high`."""

    kind: str = Field(default="inner", description="of part")
    part: SerializeAsAny[Config] = Field(default=Inner(), description="a part", validate_default=True)
    low: int = Field(default=0, description="at least")
    high: int = Field(default=0, description="at most")

    @field_validator("part", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind = {"inner": Inner, "wide": Wide}[info.data["kind"]]
        return kind() if value in (Inner(), Inner().model_dump()) else build(kind, value, "part")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.low == 0) != (self.high == 0):
            raise UserError("give low and high, or neither")
        return self


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Outer().steps = 3  # pyright: ignore


def test_build_names_the_field_and_the_nearest() -> None:
    assert build(Outer, {"inner": {"width": 2}}) == Outer(inner=Inner(width=2))
    with pytest.raises(UserError, match=r"^unknown key 'run.json.inner.widht'. Did you mean 'width'\?$"):
        build(Outer, {"inner": {"widht": 2}}, "run.json")
    with pytest.raises(UserError, match=r"^inner.width: input should be greater than or equal to 1 \(got 0\)$"):
        build(Outer, {"inner": {"width": 0}})
    with pytest.raises(UserError, match=r"steps: .*; rate: "):
        build(Outer, {"steps": "many", "rate": "fast"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["steps=3", "inner.width=8"], Outer(steps=3, inner=Inner(width=8))),
        (["rate=1e-3"], Outer(rate=1e-3)),
        (["inner.name=plain text"], Outer(inner=Inner(name="plain text"))),
        (["inner.name=a=b"], Outer(inner=Inner(name="a=b"))),
        (['sensors=["left","right"]'], Outer(sensors=("left", "right"))),
        (["steps=3", "steps=4"], Outer(steps=4)),
    ],
)
def test_override(words: list[str], expected: Outer) -> None:
    assert override(Outer(), words) == expected


@pytest.mark.parametrize(
    "words",
    list(permutations(["kind=wide", "part.width=8", "part.deep.width=9", "low=1"])),
)
def test_words_come_in_any_order(words: tuple[str, ...]) -> None:
    """`kind` has keys of its own, also where one is set that both have; nothing is judged by half of the words."""
    expected = Changing(kind="wide", part=Wide(width=8, deep=Inner(width=9)), low=1, high=2)
    assert override(Changing(), [*words, "high=2"]) == override(Changing(), ["high=2", *words]) == expected


def test_of_words_for_a_key_the_last_counts_and_a_whole_part_comes_before_what_is_in_it() -> None:
    found = override(Outer(), ["inner.width=8", 'inner={"name": "b"}', "inner.width=9"])
    assert found.inner == Inner(width=9, name="b")
    with pytest.raises(UserError, match=r"unknown key 'part.deep.width'. Did you mean 'part.width'\?"):
        override(Changing(), ["part.deep.width=2"])
    with pytest.raises(UserError, match="give low and high"):
        override(Changing(), ["low=1", "kind=wide", "part.deep.width=2"])


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("steps", "write overrides as key=value"),
        ("step=3", "unknown key 'step'. Did you mean 'steps'"),
        ("inner.widht=3", "Did you mean 'inner.width'"),
        ("steps.inner=3", "unknown key 'steps.inner'"),
        ("steps=1.5", "steps: .*got 1.5"),
        ("inner.width=null", "inner.width: "),
    ],
)
def test_a_wrong_override_is_named(word: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        override(Outer(), [word])
    assert "\n" not in str(caught.value)


@given(st.builds(Outer, steps=st.integers(), rate=st.floats(allow_nan=False), inner=st.builds(Inner, name=st.text())))
def test_json_there_and_back(config: Outer) -> None:
    assert build(Outer, config.model_dump(mode="json")) == config


def test_choose_names_the_nearest_and_lists_all() -> None:
    known = {"jepa": 1, "rssm": 2}
    assert choose("family", "rssm", known) == 2
    with pytest.raises(UserError, match=r"^unknown family 'jeppa'. Did you mean 'jepa'\? Known: jepa, rssm$"):
        choose("family", "jeppa", known)
    assert nearest("zzz", ["jepa"]) == ""


def test_differences_are_told_by_key_but_for_those_that_are_free() -> None:
    before, now = {"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"x": 1, "y": 3}, "b": [2], "c": None, "d": 0}
    assert list(differences(before, now)) == [("a.y", 2, 3), ("b", [1], [2]), ("d", None, 0)]
    assert list(differences(before, now, ("a.y", "d"))) == [("b", [1], [2])]
    assert not list(differences(now, now))
