"""Raw files go round, have their whole length from the start, and refuse what does not fit on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from innerworld.data.columns import Columns, Kind, told
from innerworld.errors import UserError

KINDS = {"obs.a/b": Kind((2,), "float32"), "flag": Kind((), "bool"), "none": Kind((0,), "float32")}
Usage = namedtuple("Usage", "total used free")


def test_rows_go_round_and_stay_in_their_stream(tmp_path: Path):
    columns = Columns(tmp_path / "r", KINDS, streams=2, rows=5)
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    columns.write("obs.a/b", 1, 8, values)  # rows 3, 4, 0, 1
    columns.write("obs.a/b", 0, 0, -np.ones((5, 2), np.float32))
    columns.close()
    again = Columns(tmp_path / "r", KINDS, streams=2, rows=5)
    got = np.zeros((4, 2), np.float32)
    again.read("obs.a/b", 1, 3, got)
    assert np.array_equal(got, values)
    row = np.ones((1, 2), np.float32)
    again.read("obs.a/b", 1, 7, row)
    assert np.array_equal(row, np.zeros((1, 2)))  # was never written
    again.close()


def test_bytes_are_there_before_anything_is_written(tmp_path: Path):
    columns = Columns(tmp_path / "r", KINDS, streams=3, rows=1000)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "r").iterdir())
    assert columns.bytes == on_disk == 3000 * 9
    if sys.platform == "linux":
        assert sum(path.stat().st_blocks for path in (tmp_path / "r").iterdir()) * 512 >= on_disk
    columns.close()


def test_what_has_another_size_is_made_anew(tmp_path: Path):
    for rows in (4, 6):
        columns = Columns(tmp_path / "r", KINDS, 1, rows)
        assert (tmp_path / "r" / "flag.raw").stat().st_size == rows
        columns.close()


def test_more_than_the_disk_has_is_refused_before_a_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 5, 5_000_000))
    with pytest.raises(UserError, match=r"a replay of 90\.00 MB does not fit into .*r: 5\.00 MB are free there"):
        Columns(tmp_path / "r", KINDS, 1, 10_000_000)
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="room is asked for otherwise")
def test_a_quota_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    granted: list[int] = []

    def refuse(handle: int, start: int, size: int) -> None:
        if granted:
            raise OSError(errno.EDQUOT, "quota")
        granted.append(size)

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UserError, match=r"no space left: make room for a replay of .*keep fewer rows"):
        Columns(tmp_path / "r", KINDS, 1, 1000)
    assert granted and list((tmp_path / "r").iterdir()) == []


def test_a_file_that_was_cut_off_is_told(tmp_path: Path):
    columns = Columns(tmp_path / "r", KINDS, 1, 100)
    os.truncate(tmp_path / "r" / "flag.raw", 50)
    with pytest.raises(UserError, match=r"cannot read the replay in .*cut off"):
        columns.read("flag", 0, 40, np.zeros(20, np.bool_))
    columns.close()


def test_sizes_are_told_as_one_says_them():
    assert told(1_094 * 1_000_000) == "1.09 GB" and told(250_000) == "0.25 MB"
