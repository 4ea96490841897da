"""The one exception that a user's own mistake or machine raises: its message is one line and says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend. The command line prints the message alone and exits with `code`."""

    code = 2


def nearest(name: str, known: list[str]) -> str:
    """`" Did you mean 'horizon'?"`, or an empty string when nothing known is close."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Look `name` up among the `known`; an unknown name is a `UserError` that names the nearest and lists all."""
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}.{nearest(name, list(known))} Known: {', '.join(sorted(known))}")
    return known[name]
