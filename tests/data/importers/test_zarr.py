"""Zarr v2 folders written by hand come back, with their holes filled and their damage named."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import BZ2, LZ4, LZMA, Blosc, GZip, Zlib, Zstd

from innerworld.data.importers import zarr
from innerworld.data.importers.zarr import ZarrArray
from innerworld.errors import UserError

BLOSC = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)


def write(folder: Path, array: np.ndarray, chunks: tuple[int, ...], codec: Any = BLOSC, **other: Any) -> None:
    """A Zarr v2 array, as its specification says."""
    folder.mkdir(parents=True)
    about = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunks),
        "dtype": array.dtype.str,
        "compressor": codec.get_config() if codec else None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        **other,
    }
    (folder / ".zarray").write_text(json.dumps(about))
    for place in product(*(range(-(-size // chunk)) for size, chunk in zip(array.shape, chunks, strict=True))):
        whole = np.zeros(chunks, array.dtype)
        part = array[tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(place, chunks, strict=True))]
        whole[tuple(slice(0, size) for size in part.shape)] = part
        raw = whole.tobytes(about["order"])
        file = folder / about.get("dimension_separator", ".").join(map(str, place))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(codec.encode(raw) if codec else raw)


ARRAY = np.arange(10 * 5 * 3, dtype=np.float32).reshape(10, 5, 3)


@pytest.mark.parametrize("codec", [BLOSC, Zlib(), None])
@pytest.mark.parametrize("chunks", [(4, 5, 3), (3, 2, 2), (10, 5, 3), (20, 8, 3)])
@pytest.mark.parametrize("other", [{}, {"order": "F"}, {"dimension_separator": "/"}])
def test_any_slice_comes_back(tmp_path: Path, codec: Any, chunks: tuple[int, ...], other: dict[str, str]):
    write(tmp_path / "a", ARRAY, chunks, codec, **other)
    array = ZarrArray(tmp_path / "a")
    assert len(array) == 10 and array.shape == (10, 5, 3) and array.dtype == np.float32
    for start, stop in ((0, 10), (2, 3), (3, 9), (9, 10), (4, 4), (0, 5)):
        np.testing.assert_array_equal(array.read(start, stop), ARRAY[start:stop])


@pytest.mark.parametrize(("fill", "value"), [(7, 7.0), (None, 0.0), ("NaN", np.nan), ("-Infinity", -np.inf)])
def test_a_chunk_without_a_file_is_the_fill_value(tmp_path: Path, fill: Any, value: float):
    write(tmp_path / "a", ARRAY, (4, 5, 3), fill_value=fill)
    (tmp_path / "a" / "1.0.0").unlink()
    read = ZarrArray(tmp_path / "a").read(0, 10)
    np.testing.assert_array_equal(read[:4], ARRAY[:4])
    np.testing.assert_array_equal(read[4:8], np.full((4, 5, 3), value, np.float32))
    np.testing.assert_array_equal(read[8:], ARRAY[8:])


@pytest.mark.parametrize("codec", [BLOSC, Zlib(), None])
@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_chunk_is_named(tmp_path: Path, codec: Any, keep: int):
    write(tmp_path / "a", ARRAY, (4, 5, 3), codec)
    file = tmp_path / "a" / "1.0.0"
    file.write_bytes(file.read_bytes()[:keep])
    array = ZarrArray(tmp_path / "a")
    np.testing.assert_array_equal(array.read(0, 4), ARRAY[:4])
    with pytest.raises(UserError, match=r"1\.0\.0 is truncated"):
        array.read(4, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a Zarr v2 array"),
        ("{", "corrupt"),
        ('{"zarr_format": 3}', "not of Zarr version 2"),
        ('{"zarr_format": 2}', "cannot be understood"),
    ],
)
def test_a_folder_that_is_not_understood(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / ".zarray").write_text(content)
    with pytest.raises(UserError, match=message):
        ZarrArray(tmp_path)


@pytest.mark.parametrize("wrong", [{"chunks": [4, 5]}, {"chunks": [0, 5, 3]}, {"compressor": {"id": "nothing"}}])
def test_a_description_that_makes_no_sense(tmp_path: Path, wrong: dict[str, Any]):
    write(tmp_path / "a", ARRAY, (4, 5, 3))
    file = tmp_path / "a" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **wrong}))
    with pytest.raises(UserError, match=r"\.zarray"):
        ZarrArray(tmp_path / "a")


def test_without_numcodecs_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a", ARRAY, (4, 5, 3))
    monkeypatch.setitem(sys.modules, "numcodecs.registry", None)
    with pytest.raises(UserError, match=r'pip install "innerworld\[data\]"'):
        ZarrArray(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"compressor": {"id": "pickle"}}, "'pickle' is not among what can be read"),
        ({"filters": [{"id": "pickle"}]}, "'pickle' is not among what can be read"),
        ({"filters": [{"id": "astype", "encode_dtype": "<f4", "decode_dtype": "<f8"}]}, "'astype' is not among"),
        ({"filters": [{"id": "delta", "dtype": "<f4", "astype": "<i2"}]}, "changes the type of numbers"),
        ({"dimension_separator": "/../"}, "cannot be understood"),
        ({"dtype": "|O"}, "are not numbers"),
        ({"dtype": "<M8[ns]"}, "are not numbers"),
        ({"chunks": [2**40, 5, 3]}, "GB: damaged"),
        ({"chunks": [4, 2**40, 3]}, "GB: damaged"),
        ({"shape": [10, 2**50, 3]}, "GB: damaged"),
        ({"shape": [10, 1_000_000, 3], "chunks": [1, 1, 1]}, "do not fit the shape"),
        ({"shape": [10, 5, -3]}, "GB: damaged|do not fit"),
        ({"shape": [-10, 5, 3]}, "do not fit the shape"),
    ],
)
def test_what_a_description_may_not_say(tmp_path: Path, change: dict[str, Any], told: str):
    write(tmp_path / "a", ARRAY, (4, 5, 3))
    about = json.loads((tmp_path / "a" / ".zarray").read_text())
    (tmp_path / "a" / ".zarray").write_text(json.dumps(about | change))
    with pytest.raises(UserError, match=told):
        ZarrArray(tmp_path / "a")


@pytest.mark.parametrize("codec", [BLOSC, Zlib(), GZip(), Zstd(), LZ4(), BZ2(), LZMA()])
def test_a_chunk_unpacks_to_no_more_than_it_should(tmp_path: Path, codec: Any):
    write(tmp_path / "a", ARRAY, (10, 5, 3), codec)
    np.testing.assert_array_equal(ZarrArray(tmp_path / "a").read(0, 10), ARRAY)
    for wrong in (ARRAY.nbytes - 4, 5_000_000):
        (tmp_path / "a" / "0.0.0").write_bytes(codec.encode(bytes(wrong)))
        with pytest.raises(UserError, match=r"0\.0\.0 is truncated or corrupt"):
            ZarrArray(tmp_path / "a").read(0, 10)


def test_a_chunk_larger_than_what_it_holds_is_not_read(tmp_path: Path):
    write(tmp_path / "a", ARRAY, (10, 5, 3), None)
    with (tmp_path / "a" / "0.0.0").open("ab") as file:
        file.truncate(10**9)
    with pytest.raises(UserError, match=r"0\.0\.0 is corrupt: it is larger"):
        ZarrArray(tmp_path / "a").read(0, 10)


def test_filters_that_keep_the_size(tmp_path: Path):
    from numcodecs import Delta, Shuffle

    for i, each in enumerate((Delta("<f4"), Shuffle(4))):
        write(tmp_path / f"{i}", ARRAY, (10, 5, 3), None, filters=[each.get_config()])
        (tmp_path / f"{i}" / "0.0.0").write_bytes(bytes(each.encode(ARRAY.reshape(-1))))
        np.testing.assert_array_equal(ZarrArray(tmp_path / f"{i}").read(0, 10), ARRAY)
    assert zarr.FILTERS == ("delta", "shuffle")
