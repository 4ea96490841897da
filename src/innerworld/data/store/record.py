"""`Record`: one episode as it lies in a file: named arrays, packed or not, with the checksum over all of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from innerworld.data.store.meta import Frames
from innerworld.data.store.packed import Packed, pack_all
from innerworld.types import Clip, Spec

NO_SEED = -1
NO_CRC = -1

OBS, BYTES, ENDS = "obs.", "packed.", "ends."
"""Beginnings of columns: a sensor's rows; a packed sensor's bytes and where in them each frame ends."""


@dataclass(frozen=True)
class Record:
    """`t` actions, `t+1` observations. `crc` is that of the payload, as it was when it was first written."""

    payload: Mapping[str, np.ndarray]  # obs.<sensor> t+1 ..., or packed.<sensor> bytes; action, reward, terminated t
    ends: Mapping[str, np.ndarray]  # packed sensors: t+1, counted from the record's own first byte
    length: int
    seed: int
    crc: int

    @property
    def bytes(self) -> int:
        return sum(column.nbytes for column in self.payload.values())


def record_of(spec: Spec, clip: Clip, frames: Frames, seed: int | None = None) -> Record:
    """Make a record of an episode (b = 1) that was checked."""
    payload = {
        "action": _array(clip.action, np.float32),
        "reward": _array(clip.reward, np.float32),
        "terminated": _array(clip.terminated, np.bool_),
    }
    ends = {}
    for sensor, shape in spec.obs.items():
        rows = _array(clip.obs[sensor], obs_dtype(shape))
        if frames == "raw" or len(shape) != 3:
            payload[OBS + sensor] = rows
        else:
            payload[BYTES + sensor], ends[sensor] = pack_all(frames, list(rows))
    return Record(payload, ends, clip.length, NO_SEED if seed is None else seed, crc_of(payload))


def cut(record: Record, start: int, length: int) -> Record:
    """The stretch of `length` actions that begins at `start`; nothing is unpacked."""
    stop = start + length
    payload = {name: record.payload[name][start:stop] for name in ("action", "reward", "terminated")}
    ends = {}
    for name, rows in record.payload.items():
        if name.startswith(OBS):
            payload[name] = rows[start : stop + 1]
    for sensor, at in record.ends.items():
        first = int(at[start - 1]) if start else 0
        payload[BYTES + sensor] = record.payload[BYTES + sensor][first : int(at[stop])]
        ends[sensor] = at[start : stop + 1] - first
    return Record(payload, ends, length, record.seed, crc_of(payload))


def repack(record: Record, spec: Spec, before: Frames, after: Frames, name: str) -> Record:
    """The same episode with its images packed another way. Raises `UserError` for a frame that cannot be unpacked."""
    if before == after:
        return record
    payload = {key: rows for key, rows in record.payload.items() if not key.startswith(BYTES)}
    ends = {}
    for sensor in spec.images():
        rows = packed_rows(record, before, sensor, spec.obs[sensor], name)[:]
        if after == "raw":
            payload[OBS + sensor] = rows
        else:
            payload.pop(OBS + sensor, None)
            payload[BYTES + sensor], ends[sensor] = pack_all(after, list(rows))
    return Record(payload, ends, record.length, record.seed, crc_of(payload))


def packed_rows(record: Record, frames: Frames, sensor: str, shape: tuple[int, ...], name: str) -> np.ndarray | Packed:
    """The frames of one sensor, to be sliced."""
    if sensor not in record.ends:
        return record.payload[OBS + sensor]
    bounds = np.concatenate([[0], record.ends[sensor]])
    return Packed(frames, record.payload[BYTES + sensor], bounds, shape, name)


def crc_of(payload: Mapping[str, np.ndarray]) -> int:
    """CRC-32 over the columns in the order of their names."""
    crc = 0
    for name in sorted(payload):
        crc = zlib.crc32(np.ascontiguousarray(payload[name]).data, crc)
    return crc


def obs_dtype(shape: tuple[int, ...]) -> type[np.generic]:
    """Of a sensor of that shape: images, tokens, vectors."""
    return {3: np.uint8, 2: np.float16, 1: np.float32}[len(shape)]


def _array(value: torch.Tensor, dtype: type[np.generic]) -> np.ndarray:
    return np.ascontiguousarray(value[0].detach().cpu().numpy().astype(dtype, copy=False))
