"""What a verb is made of: `Verb`, the `Call` that reaches it, and the `Answer` it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is not needed for --help
    from rich.console import Console


@dataclass(frozen=True)
class Answer:
    """A result in both its forms: plain values for `--json`, and a way to show it to a person."""

    values: dict[str, Any]
    show: Callable[[Console], None]
    code: int = 0
    told: bool = True  # False: another process says it


@dataclass(frozen=True)
class Call:
    """What the user said beside the values of the flags."""

    overrides: list[str]  # key=value
    given: frozenset[str]  # names of the flags that were written out, as fields
    quiet: bool
    command: str  # as a shell takes it
    words: tuple[str, ...] = ()  # all of them, to say them to another process

    def apart(self, prefix: str = "model.") -> tuple[tuple[str, ...], list[str]]:
        """The overrides that begin so, without that, and the others."""
        of = tuple(word.removeprefix(prefix) for word in self.overrides if word.startswith(prefix))
        return of, [word for word in self.overrides if not word.startswith(prefix)]


@dataclass(frozen=True)
class Verb:
    """`flags` is a frozen dataclass, of which tyro makes the flags; `run` does the work."""

    flags: type
    run: Callable[[Any, Call], Answer]
    takes_overrides: bool = False
    after_help: Callable[[Console, Sequence[str]], None] | None = None  # given all words
