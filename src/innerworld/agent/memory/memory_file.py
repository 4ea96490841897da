"""What a short-term memory holds as plain tensors by name, and back: the form in which it is saved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.agent.memory.tape import Episode, Tape
from innerworld.types import each


def pack(tape: Tape, finished: Sequence[Episode], goal: Tensor | None) -> dict[str, Tensor]:
    """Episodes lie one after another, of `past/lengths` moments each."""
    packed = {f"now/{name}": column for name, column in tape.columns().items()}
    packed |= {"times": torch.tensor(tape.times, dtype=torch.long), "begins": tape.begins}
    packed |= {"number": tape.number, "ended": tape.ended, "room": torch.tensor(tape.room)}
    if goal is not None:
        packed["goal"] = goal
    if finished:
        packed |= _pack_past(finished)
    return packed


def unpack(tensors: dict[str, Tensor]) -> tuple[Tape, list[Episode], Tensor | None]:
    """The tape, the finished episodes and what is pursued now."""
    tape = Tape(tensors["number"])
    tape.begins, tape.ended = tensors["begins"], tensors["ended"]
    now = {name.removeprefix("now/"): value for name, value in tensors.items() if name.startswith("now/")}
    tape.fill(tensors["times"].tolist(), now, int(tensors["room"]))
    finished = _unpack_past(tensors) if "past/lengths" in tensors else []
    return tape, finished, tensors.get("goal")


def _pack_past(finished: Sequence[Episode]) -> dict[str, Tensor]:
    packed = {
        "past/lengths": torch.tensor([len(episode) for episode in finished]),
        "past/number": torch.tensor([episode.number for episode in finished]),
        "past/ended": torch.tensor([episode.ended for episode in finished]),
        "past/time": torch.cat([episode.time for episode in finished]),
    }
    lived = [episode.columns() for episode in finished]
    for name in dict.fromkeys(name for columns in lived for name in columns):
        has = [name in columns for columns in lived]
        packed[f"past/{name}"] = torch.cat([columns[name].cpu() for columns in lived if name in columns])
        packed[f"has/{name}"] = torch.tensor(has)
    return packed


def _unpack_past(tensors: dict[str, Tensor]) -> list[Episode]:
    past = {name.removeprefix("past/"): value for name, value in tensors.items() if name.startswith("past/")}
    lengths = past["lengths"].tolist()
    found: list[dict[str, Tensor]] = [{"time": time} for time in past["time"].split(lengths)]
    for name in (name.removeprefix("has/") for name in tensors if name.startswith("has/")):
        owners = tensors[f"has/{name}"].nonzero().flatten().tolist()
        for i, value in zip(owners, past[name].split([lengths[i] for i in owners]), strict=True):
            found[i][name] = value
    return [
        Episode(int(past["number"][i]), bool(past["ended"][i]), **each(torch.clone, columns))
        for i, columns in enumerate(found)
    ]
