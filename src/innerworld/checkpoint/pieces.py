"""Tensors and their rows: a file may hold all of a tensor, or the rows that one process has of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from innerworld.checkpoint.folder import BrokenCheckpoint
from innerworld.disk import sync


@dataclass(frozen=True)
class Piece:
    """The rows `start:` of a tensor of `shape`, as many as there are."""

    rows: Tensor
    start: int
    shape: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return tuple(self.rows.shape) == self.shape


def piece(value: Tensor, sharded: bool) -> Piece:
    """What this process holds of `value`: all of it, or its rows where FSDP spread it."""
    if sharded:
        from torch.distributed.tensor import DTensor  # late: half a second

        if isinstance(value, DTensor):
            start, _ = bounds(value.shape[0], value.device_mesh.get_local_rank(), value.device_mesh.size())
            return Piece(value.to_local(), start, tuple(value.shape))
    return Piece(value, 0, tuple(value.shape))


def bounds(n: int, rank: int, world: int) -> tuple[int, int]:
    """The rows that FSDP gives to a process: even chunks, the last ones shorter or empty."""
    chunk = math.ceil(n / world)
    return min(n, rank * chunk), min(n, (rank + 1) * chunk)


def on_host(pieces: Mapping[str, Piece]) -> dict[str, Piece]:
    """A copy that the next step does not change. A clone each: safetensors refuses views and strides."""

    def copy(value: Tensor) -> Tensor:
        return value.detach().to("cpu", copy=True).contiguous()

    return {name: Piece(copy(each.rows), each.start, each.shape) for name, each in pieces.items()}


def write_pieces(path: Path, pieces: Mapping[str, Piece], scalars: Mapping[str, float]) -> None:
    parts = {name: [each.start, list(each.shape)] for name, each in pieces.items() if not each.whole}
    # One entry, for safetensors writes several in an order of its own, and equal runs should give equal files.
    told = {"scalars": dict(scalars), "rows": parts}
    header = {"innerworld": json.dumps(told)} if scalars or parts else {"format": "pt"}
    save_file({name: each.rows for name, each in pieces.items()}, path, header)
    sync(path)


class Pieces:
    """The tensors of one kind, put together from the files that hold their rows; read when asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.scalars: dict[str, float] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, list[tuple[int, int, Any]]] = {}  # first row, number of rows, open file
        for path in paths:
            try:
                self._open(path)
            except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise BrokenCheckpoint(f"{path} is broken: {error}") from None
        for name, places in self._places.items():
            self._check(name, places)

    def _open(self, path: Path) -> None:
        file = safe_open(path, "pt")
        header = file.metadata() or {}
        told = json.loads(header.get("innerworld", "{}"))
        self.scalars |= told.get("scalars", {}) or json.loads(header.get("scalars", "{}"))  # the latter: format 1
        parts = told.get("rows", {})
        for name in file.keys():  # noqa: SIM118 - a safe_open is no mapping
            here = tuple(file.get_slice(name).get_shape())
            start, shape = parts.get(name, (0, here))
            if self.shapes.setdefault(name, tuple(shape)) != tuple(shape) or tuple(shape[1:]) != here[1:]:
                raise ValueError(f"{name} has another shape than elsewhere")
            self._places.setdefault(name, []).append((int(start), here[0] if here else 1, file))

    def _check(self, name: str, places: list[tuple[int, int, Any]]) -> None:
        """Every row once: or a header could ask for any amount of memory, or leave rows as they were."""
        at = 0
        for start, rows, _ in sorted(places, key=lambda place: place[:2]):
            if rows and start != at:
                raise BrokenCheckpoint(f"rows {at} to {start} of {name} are missing or there twice")
            at += rows
        shape = self.shapes[name]
        if at != (shape[0] if shape else 1):
            raise BrokenCheckpoint(f"rows of {name} are missing: {at} of {shape[0] if shape else 1} are there")

    def names(self) -> list[str]:
        return list(self._places)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """The rows `start:stop` of a tensor, from wherever they are."""
        shape = self.shapes[name]
        end = (shape[0] if shape else 1) if stop is None else stop
        found = []
        for first, rows, file in sorted(self._places[name], key=lambda place: place[:2]):
            low, high = max(start, first), min(end, first + rows)
            if (low, high) == (first, first + rows):
                found.append(file.get_tensor(name))
            elif low < high:
                found.append(file.get_slice(name)[low - first : high - first])
        return (
            found[0]
            if len(found) == 1
            else torch.cat(found)
            if found
            else self._places[name][0][2].get_tensor(name)[:0]
        )
