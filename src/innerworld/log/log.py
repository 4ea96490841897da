"""Where a run reports to: a log is a function `(step, row) -> None`, such as a file, a progress line, or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Row = Mapping[str, float]
Log = Callable[[int, Row], None]
"""Gets the step (the first is 0) and what was measured in it; an empty row says only that the step is done."""


def silent(step: int, row: Row) -> None:
    """Forget everything."""


def tee(*logs: Log) -> Log:
    """Report to each of the `logs`, in their order."""

    def log(step: int, row: Row) -> None:
        for each in logs:
            each(step, row)

    return log
