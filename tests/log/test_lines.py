"""The log as a file: no step twice after a resume, no torn row, and a full disk or a clock that jumps costs no run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from innerworld.errors import UserError
from innerworld.log import JsonLines


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with JsonLines(path) as log:
        log(0, {"loss": 1.5, "grad_norm": 2})
        assert [(row["step"], row["loss"], row["grad_norm"]) for row in rows(path)] == [(0, 1.5, 2)]
        assert rows(path)[0]["time"] > 1.6e9


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "log") as log:
        log(0, {"loss": float("nan"), "norm": float("-inf")})
    assert "NaN" not in (tmp_path / "log").read_text()
    assert rows(tmp_path / "log")[0]["loss"] is None


@pytest.mark.parametrize(("first", "kept"), [(0, []), (20, [0, 10]), (25, [0, 10, 20]), (99, [0, 10, 20, 30])])
def test_a_resumed_run_repeats_no_step(tmp_path: Path, first: int, kept: list[int]) -> None:
    path = tmp_path / "log"
    with JsonLines(path) as log:
        for step in (0, 10, 20, 30):
            log(step, {"run": 1})
    with JsonLines(path) as log:
        assert len(rows(path)) == 4  # nothing is lost before there is something new
        log(first, {"run": 2})
        log(first + 1, {"run": 2})
    assert [row["step"] for row in rows(path)] == [*kept, first, first + 1]
    assert [row["run"] for row in rows(path)] == [1] * len(kept) + [2, 2]


@pytest.mark.parametrize("torn", [b'{"step": 10, "lo', b'{"step": 10}', b"\xff\x00\n", b'{"loss": 1}\n', b"[]\n"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 0, "loss": 1.0}\n' + torn)
    with JsonLines(path) as log:
        log(20, {"loss": 1.0})
    assert [row["step"] for row in rows(path)] == [0, 20]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the log"):
        JsonLines(tmp_path)


def test_an_empty_row_writes_nothing(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "log") as log:
        log(0, {})
        log(1, {"loss": 1.0})
        log(2, {})
    assert [row["step"] for row in rows(tmp_path / "log")] == [1]


class Full:
    """A file that takes `room` more bytes and then raises, as a full disk does."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        if self.room == 0:
            raise OSError(28, "No space left on device")
        taken = self.file.write(bytes(data)[: self.room])
        self.room -= taken
        return taken

    def close(self) -> None:
        self.file.close()


def test_a_full_disk_costs_rows_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    with JsonLines(path) as log, caplog.at_level(logging.WARNING):
        log(0, {"loss": 1.0})
        whole, full = log._file, Full(log._file, 7)
        log._file = full  # type: ignore[assignment]
        log(1, {"loss": 2.0})
        log(2, {"loss": 3.0})
        log._file = whole  # somebody has made room
        log(3, {"loss": 4.0})
    assert [row["step"] for row in rows(path)] == [0, 3]
    assert [record.message for record in caplog.records] == [
        f"{path} misses rows: no space left: make room. Training goes on"
    ]


def test_a_clock_that_jumps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JsonLines(tmp_path / "log") as log:
        log(0, {"loss": 1.0})
        monkeypatch.setattr("innerworld.log.lines.time.time", lambda: 1000.0)
        log(1, {"loss": 1.0})
    assert [row["step"] for row in rows(tmp_path / "log")] == [0, 1]


@pytest.mark.parametrize("name", ["Läufe ünd 世界", "with a space", "x" * 200, "a/" * 60])
def test_odd_paths(tmp_path: Path, name: str) -> None:
    with JsonLines(tmp_path / name / "log.jsonl") as log:
        log(0, {"loss": 1.0})
    assert len(rows(tmp_path / name / "log.jsonl")) == 1


def test_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for step in (0, 0):
        with JsonLines(tmp_path / "link" / "log.jsonl") as log:
            log(step, {"loss": 1.0})
    assert len(rows(tmp_path / "real" / "log.jsonl")) == 1
