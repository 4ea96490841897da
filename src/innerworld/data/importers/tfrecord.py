"""TFRecord files without TensorFlow: the framing with its checksums, and the `tf.train.Example` inside.

A record is its length (8 bytes), a checksum of those, the bytes, and a checksum of them; a checksum is CRC-32C, rotated
and shifted by a constant (tensorflow/core/lib/io/record_writer.h). An Example maps names to lists of bytes, floats or
whole numbers (tensorflow/core/example/feature.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from innerworld.errors import UserError

Feature = list[bytes] | np.ndarray
"""What an Example says under one name: bytes, float32 or int64."""

HEADER, FOOTER = 12, 4
LANE = 256
"""Bytes of a lane: the checksum is computed for many lanes at once, and then joined."""


def spans(file: Path) -> Iterator[tuple[int, int] | str]:
    """First byte and length of every record; a text says why nothing after that place can be found, and ends them."""
    total = file.stat().st_size
    if not total:
        yield "it is empty"
    with file.open("rb") as opened:
        at = 0
        while at < total:
            opened.seek(at)
            header = opened.read(HEADER)
            if at == 0 and header[:2] == b"\x1f\x8b":
                yield "it is compressed as a whole: unpack it with gunzip first"
                return
            if len(header) < HEADER:
                yield f"it is truncated at byte {at}"
                return
            length, sum_ = struct.unpack("<QI", header)
            if sum_ != masked(header[:8]):
                yield f"the length of the record at byte {at} does not match its checksum, and so the rest is lost"
                return
            if at + HEADER + length + FOOTER > total:
                yield f"it is truncated: the record at byte {at} has {length} bytes"
                return
            yield at + HEADER, length
            at += HEADER + length + FOOTER


def read_record(file: Path, start: int, length: int) -> bytes:
    """One record. Raises `UserError` if its checksum does not match."""
    try:
        with file.open("rb") as opened:
            opened.seek(start)
            data = opened.read(length + FOOTER)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    if len(data) != length + FOOTER or struct.unpack("<I", data[length:])[0] != masked(data[:length]):
        raise UserError(f"{file} is corrupt: the record at byte {start} does not match its checksum")
    return data[:length]


# ---------------------------------------------------------------------- the checksum


def masked(data: bytes) -> int:
    """The CRC-32C of `data` as TFRecord writes it."""
    sum_ = crc32c(data)
    return ((sum_ >> 15 | sum_ << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli (RFC 3720). It is linear, so lanes are summed beside each other and joined after."""
    table = _table()
    lanes = len(data) // LANE
    state = 0xFFFFFFFF
    if lanes > 1:
        block = np.frombuffer(data, np.uint8, lanes * LANE).reshape(lanes, LANE).T.astype(np.uint32)
        sums = np.zeros(lanes, np.uint32)
        for row in block:
            sums = table[(sums ^ row) & 0xFF] ^ (sums >> 8)
        a, b, c, d = (part.tolist() for part in _beyond_a_lane())
        for each in sums.tolist():
            state = a[state & 255] ^ b[state >> 8 & 255] ^ c[state >> 16 & 255] ^ d[state >> 24] ^ each
        data = data[lanes * LANE :]
    steps = _steps()
    for byte in data:
        state = steps[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@lru_cache
def _table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(0x82F63B78), values >> 1)
    return values


@lru_cache
def _steps() -> list[int]:
    return _table().tolist()


@lru_cache
def _beyond_a_lane() -> np.ndarray:
    """What each byte of a state becomes when a lane of zeros follows: 4 tables of 256."""
    states = np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(LANE):
        states = _table()[states & 0xFF] ^ (states >> 8)
    return states


# ---------------------------------------------------------------------- the protocol buffer


def example(data: bytes) -> dict[str, Feature]:
    """A `tf.train.Example`. Raises `UserError` for what is none."""
    try:
        found: dict[str, Feature] = {}
        view = memoryview(data)
        for _, features in _fields(view, {1: 2}):
            for _, entry in _fields(features, {1: 2}):
                parts = dict(_fields(entry, {1: 2, 2: 2}))
                found[bytes(parts[1]).decode()] = _feature(parts.get(2, memoryview(b"")))
        return found
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise UserError(f"the record is no tf.train.Example: {error}") from error


def _feature(data: memoryview) -> Feature:
    value: Feature = []
    for kind, content in _fields(data, {1: 2, 2: 2, 3: 2}):
        parts = list(_values(content))
        if kind == 1:
            value = [bytes(part) for part in parts]
        elif kind == 2:
            value = np.frombuffer(b"".join(parts), "<f4")
        else:
            value = _varints(b"".join(parts))
    return value


def _values(data: memoryview) -> Iterator[memoryview]:
    """The field `value` = 1 of a list: packed, or one at a time (5: four bytes; 0: a whole number)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key >> 3 != 1:
            raise ValueError(f"a list has a field {key >> 3}")
        begin = at
        if key & 7 == 2:
            size, begin = _varint(data, at)
            at = begin + size
        elif key & 7 == 5:
            at += 4
        elif key & 7 == 0:
            _, at = _varint(data, at)
        else:
            raise ValueError(f"a list has a value of wire type {key & 7}")
        if at > len(data):
            raise ValueError("a value is cut off")
        yield data[begin:at]


def _fields(data: memoryview, wire: dict[int, int]) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message, each of which has to be known and of the wire type that is given."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if wire.get(key >> 3) != key & 7:
            raise ValueError(f"a message has a field {key >> 3} of wire type {key & 7}")
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a field is cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number in groups of 7 bits, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a whole number has more than 10 bytes")


def _varints(data: bytes) -> np.ndarray:
    """Many at once, as int64."""
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return np.zeros(0, np.int64)
    last = raw < 0x80
    if not last[-1]:
        raise ValueError("a whole number is cut off")
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(starts, np.diff(np.append(starts, len(raw))))
    if place.max() > 9:
        raise ValueError("a whole number has more than 10 bytes")
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(parts, starts).astype(np.int64)
