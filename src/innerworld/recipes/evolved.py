"""The folder of an evolved controller: its weights, the generations that led there, and what it was judged to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from innerworld.config import Config, build, differences
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.policy.evolution import Generation

NOTE, GENERATIONS, WEIGHTS, RESULTS = "evolution.json", "generations.json", "controller.safetensors", "results.json"
FREE = ("evolution.generations",)  # may grow when a search goes on


class Noted(Config):
    """What a search is; the same settings and seeds give the same controller."""

    evolution: dict[str, Any] = Field(default={}, description="the settings")
    env: str = Field(default="", description="id of the world, where that is where it searches")
    max_steps: int | None = Field(default=None, description="longest episode there, steps")


@dataclass
class Evolved:
    """A search on the disk. It is whole after every generation, whatever kills the process."""

    folder: Path
    generations: list[Generation] = field(default_factory=list)

    @classmethod
    def begin(cls, folder: Path, noted: Noted, command: str) -> Evolved:
        """A new one, or one that goes on. Raises `UserError` for one that was begun with other settings."""
        if (folder / NOTE).exists():
            _refuse_difference(_read_note(folder), noted, folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / NOTE, {"command": command, **noted.model_dump(mode="json")})
        if not (folder / GENERATIONS).exists():
            return cls(folder)
        rows = _read(folder / GENERATIONS).get("generations", [])
        weights = _read_weights(folder)
        return cls(folder, [Generation(i, tuple(row["fitness"]), row["mark"], weights) for i, row in enumerate(rows)])

    @staticmethod
    def read(folder: Path) -> tuple[Tensor, Noted]:
        """The controller's weights `p`, and how it came about. Raises `UserError`."""
        noted = _read_note(folder)
        return _read_weights(folder), noted

    def keep(self, found: Generation) -> None:
        """The weights first: with those of a generation more, a search still goes on."""
        self.generations.append(found)
        write_atomic(self.folder / WEIGHTS, [save({"weights": found.centre})])
        rows = [{"fitness": each.fitness, "mark": each.mark} for each in self.generations]
        _write(self.folder / GENERATIONS, {"generations": rows})

    def keep_results(self, results: dict[str, Any]) -> None:
        _write(self.folder / RESULTS, results)

    def weights(self) -> Tensor:
        """Of the last generation, `p`."""
        return self.generations[-1].centre


def _refuse_difference(before: Noted, now: Noted, folder: Path) -> None:
    for key, was, wanted in differences(before.model_dump(mode="json"), now.model_dump(mode="json"), FREE):
        name = key.removeprefix("evolution.")
        raise UserError(f"{folder} was begun with {name}={was}, not {wanted}: give that, or move the folder away")


def _read_note(folder: Path) -> Noted:
    if not (folder / NOTE).exists():
        raise UserError(f"{folder} holds no evolved controller: make one with innerworld evolve")
    values = _read(folder / NOTE)
    values.pop("command", None)
    return build(Noted, values, str(folder / NOTE))


def _read_weights(folder: Path) -> Tensor:
    path = folder / WEIGHTS
    try:
        return load(path.read_bytes())["weights"].to(torch.float32)
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"cannot read {path} ({error}): move {folder} away, and evolve anew") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"cannot read {path}: it is not a JSON object")
    return values


def _write(path: Path, values: dict[str, Any]) -> None:
    write_atomic(path, [json.dumps(values, indent=2).encode()])
