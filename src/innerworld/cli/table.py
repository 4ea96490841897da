"""Tables: drawn on a terminal, plain columns of full width in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from innerworld.config import Config

FIELD = ("key", "type", "default", "description")


def show_table(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings."""
    if console.is_terminal:
        columns = [Column(heading, overflow="fold") for heading in headings]  # narrow is better than cut off
        drawn = Table(*columns, box=box.SIMPLE, header_style="bold")
        for row in rows:
            drawn.add_row(*map(Text, row))  # Text: [brackets] are no markup here
        console.print(drawn)
        return
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        say(console, "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def say(console: Console, line: str = "") -> None:
    """Print a line as it is: no markup, no colours, not broken by us."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def number_rows(results: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """One row for each number, one column for each that was judged; intervals beside what they are of."""
    every = dict.fromkeys(name for found in results.values() for name in found)
    measures = [name for name in every if name.removesuffix("_low").removesuffix("_high") not in every.keys() - {name}]
    return [[name, *(_number(found, name) for found in results.values())] for name in measures]


def field_rows(config: Config, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Each field of a configuration as `FIELD` says, nested ones with dots; a default as one would type it."""
    values = config.model_dump(mode="json")
    rows: list[tuple[str, str, str, str]] = []
    for (name, value), field in zip(config, type(config).model_fields.values(), strict=True):
        if isinstance(value, Config):
            rows += field_rows(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and value and all(isinstance(each, Config) for each in value.values()):
            for key, each in value.items():
                rows += field_rows(each, f"{prefix}{name}.{key}.")
        else:
            rows.append((prefix + name, _kind(field), typed(values[name]), field.description or ""))
    return rows


def field_values(config: Config, prefix: str = "") -> list[dict[str, str]]:
    """`field_rows` for JSON."""
    return [dict(zip(FIELD, row, strict=True)) for row in field_rows(config, prefix)]


def typed(value: Any) -> str:
    """A value as one would write it after `key=`."""
    return value if isinstance(value, str) else json.dumps(value)


def _number(found: Mapping[str, float], name: str) -> str:
    """The number, with its interval where it has one."""
    if name not in found:
        return "-"
    low, high = f"{name}_low", f"{name}_high"
    interval = f" [{found[low]:.4g}, {found[high]:.4g}]" if low in found and high in found else ""
    return f"{found[name]:.4g}{interval}"


def _kind(field: FieldInfo) -> str:
    return " ".join([_type(field.annotation), *_bounds(field.metadata)])


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return "|".join(map(_type, get_args(annotation)))
    if annotation is NoneType:
        return "null"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def _bounds(metadata: Sequence[Any]) -> list[str]:
    bounds = []
    for bound in metadata:
        match bound:
            case Ge(ge=value):
                bounds.append(f">={value}")
            case Gt(gt=value):
                bounds.append(f">{value}")
            case Le(le=value):
                bounds.append(f"<={value}")
            case Lt(lt=value):
                bounds.append(f"<{value}")
    return bounds
