"""A shard is a plain safetensors file, aligned, checked against its size, and written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from innerworld.data.store.shard import map_columns, read_columns, write_shard
from innerworld.disk import write_atomic
from innerworld.errors import UserError

COLUMNS = {
    "terminated": [np.array([True, False, True])],
    "obs.pixels": [np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), np.zeros((2, 2, 2, 3), np.uint8)],
    "action": [np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)],
    "length": [np.array([3], np.int64)],
}


def test_what_is_written_is_read_back_here_and_by_the_safetensors_library(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_shard(path, COLUMNS)
    ours, theirs = map_columns(path, read_columns(path)), load_file(path)
    assert ours.keys() == theirs.keys() == COLUMNS.keys()
    for name, pieces in COLUMNS.items():
        expected = np.concatenate(pieces)
        assert ours[name].dtype == theirs[name].dtype == expected.dtype
        np.testing.assert_array_equal(ours[name], expected)
        np.testing.assert_array_equal(theirs[name], expected)
        assert ours[name].flags.aligned
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_writing_into_what_was_read_leaves_the_file_as_it_is(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_shard(path, COLUMNS)
    before = path.read_bytes()
    map_columns(path, read_columns(path))["action"][:] = 7
    assert path.read_bytes() == before


def _header(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


def _entry(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return json.dumps({"length": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        (10**12).to_bytes(8, "little") + b"{}",
        _header(b"not json"),
        _header(b"[1, 2]"),
        _header(b'{"length": 3}'),
        _header(_entry("I16", [1], [0, 2]), b"12"),
        _header(_entry("I64", [2], [0, 8]), b"12345678"),
        _header(_entry("I64", [-1], [0, -8]), b""),
        _header(_entry("I64", [1], [0, 8]), b"1234567"),
        _header(_entry("I64", [1], [0, 8]), b"123456789"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.safetensors is (truncated|corrupt)"):
        read_columns(path)


def test_a_file_that_shrank_or_went_since_it_was_opened_is_named(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_shard(path, COLUMNS)
    columns = read_columns(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"a\.safetensors is truncated"):
        map_columns(path, columns)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*a\.safetensors"):
        map_columns(path, columns)


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path):
    path = tmp_path / "meta.json"
    write_atomic(path, [b"old"])

    def parts():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, parts())
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["meta.json"]
