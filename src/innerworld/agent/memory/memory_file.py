"""What a short-term memory holds as plain tensors by name, and back: the form in which it is saved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.agent.memory.tape import Episode, Tape


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
    goals = [episode.goal for episode in finished if episode.goal is not None]
    packed = {
        "past/lengths": torch.tensor([len(episode) for episode in finished]),
        "past/number": torch.tensor([episode.number for episode in finished]),
        "past/ended": torch.tensor([episode.ended for episode in finished]),
        "past/pursued": torch.tensor([episode.goal is not None for episode in finished]),
        "past/time": torch.cat([episode.time for episode in finished]),
    }
    for name in ("features", "action", "cost", "foreseen", "surprise"):
        packed[f"past/{name}"] = torch.cat([episode.columns()[name].cpu() for episode in finished])
    return packed | ({"past/goal": torch.cat([goal.cpu() for goal in goals])} if goals else {})


def _unpack_past(tensors: dict[str, Tensor]) -> list[Episode]:
    past = {name.removeprefix("past/"): value for name, value in tensors.items() if name.startswith("past/")}
    lengths = past["lengths"].tolist()
    columns = {
        name: past[name].split(lengths) for name in ("time", "features", "action", "cost", "foreseen", "surprise")
    }
    pursued = past["pursued"].tolist()
    told = iter(past["goal"].split([n for n, was in zip(lengths, pursued, strict=True) if was]) if any(pursued) else ())
    return [
        Episode(
            int(past["number"][i]),
            bool(past["ended"][i]),
            **{name: column[i].clone() for name, column in columns.items()},
            goal=next(told).clone() if pursued[i] else None,
        )
        for i in range(len(lengths))
    ]
