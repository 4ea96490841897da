"""`JsonLines`: the log as a file with one line of JSON for each row, without a step that stands there twice."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from innerworld.disk import reason
from innerworld.errors import UserError
from innerworld.log.log import Row

logger = logging.getLogger(__name__)


class JsonLines:
    """Append each row to a file as one line of JSON, with `step` and `time` (seconds since 1970); usable in `with`.

    The first row of a resumed run is a step that the file may already hold, written after the last checkpoint and
    before the kill: that row and all later ones are dropped first, so that no step stands there twice. Numbers that
    are not finite become null. A disk that refuses a row costs that row and one warning, never the training. Raises
    `UserError` when the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"cannot write the log {self.path}: {error.strerror}") from None
        self._end = 0  # length of the file up to its last whole row
        self._fresh = True
        self._warned = False

    def __call__(self, step: int, row: Row) -> None:
        if not row:
            return
        values = {name: value if math.isfinite(value) else None for name, value in row.items()}
        line = json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n"
        try:
            if self._fresh:
                self._end = _bytes_before(self.path, step)
                os.truncate(self.path, self._end)
                self._fresh = False
            self._append(line.encode())
        except OSError as error:
            self._forget_the_rest(error)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        while left:  # a full disk takes a part first, and refuses the rest
            left = left[self._file.write(left) :]
        self._end += len(line)

    def _forget_the_rest(self, error: OSError) -> None:
        """A torn row must not stay, for the next one would join it."""
        if not self._fresh:
            with suppress(OSError):
                os.truncate(self.path, self._end)
        if not self._warned:
            logger.warning("%s misses rows: %s. Training goes on", self.path, reason(error))
            self._warned = True


def _bytes_before(path: Path, step: int) -> int:
    """The length of the file up to its first row of `step` or later; a line torn by a kill ends it, too."""
    kept = 0
    with path.open("rb") as file:
        for line in file:
            at = _step_of(line)
            if at is None or at >= step:
                break
            kept += len(line)
    return kept


def _step_of(line: bytes) -> int | None:
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
