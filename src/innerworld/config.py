"""Configurations: frozen pydantic models, nested in the class they configure, read from JSON or `a.b=value` words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from innerworld.errors import UserError, nearest

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Frozen; an unknown key is an error. Give every field a default and a `Field(description=...)` with its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def build(kind: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Make a `kind` from plain values (a JSON object). Raises `UserError` that names the field, and the nearest one."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(_explain(kind, e, where) for e in error.errors())) from None


def override(config: C, words: Sequence[str]) -> C:
    """A copy of `config` with `a.b=value` words applied, each value read as JSON, else as text.

    Words of fewer dots first, whatever their order, for they may decide what other keys there are: `family=sequence`
    brings `world.backbone.kind`. Of those with as many the later ones count. Raises `UserError` for a word without `=`,
    an unknown key (naming the nearest) or a value of the wrong type.
    """
    for word in words:
        if "=" not in word:
            raise UserError(f"cannot read {word!r}: write overrides as key=value, for example steps=100")
    for _, group in groupby(sorted(words, key=_dots), key=_dots):
        values = config.model_dump()
        for word in group:
            key, _, text = word.partition("=")
            at = _holder(values, key)
            if at is None:
                raise UserError(f"unknown key {key!r}.{nearest(key, dotted(config))}")
            at[key.split(".")[-1]] = _value(text)
        config = build(type(config), values)
    return config


def _dots(word: str) -> int:
    """How deep a word's key lies."""
    return word.partition("=")[0].count(".")


def _holder(values: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The values among which a dotted key has its place; none for a key that there is not."""
    *parents, leaf = key.split(".")
    at: Any = values
    for parent in parents:
        at = at.get(parent) if isinstance(at, dict) else None
    return at if isinstance(at, dict) and leaf in at else None


def dotted(config: Config) -> list[str]:
    """Every key of `config` in dotted form, in the order of the fields."""
    return list(flat(config.model_dump()))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested plain values under their dotted keys."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return found


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Iterable[str] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Where nested plain values differ, but for the dotted keys in `free`: (key, value before, value now), by key."""
    old, new = flat(before), flat(now)
    for key in sorted((old.keys() | new.keys()) - {*free}):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(kind: type[BaseModel], error: Any, where: str) -> str:
    path = [str(part) for part in error["loc"]]
    name = ".".join([where, *path] if where else path)
    if error["type"] != "extra_forbidden":
        return f"{name}: {error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"
    for part in path[:-1]:
        annotation = kind.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            kind = annotation
    return f"unknown key {name!r}.{nearest(path[-1], list(kind.model_fields))}"
