"""What is saved of a run and put back: weights, their average, the optimiser's memory, and every random state."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from innerworld.checkpoint.folder import BrokenCheckpoint
from innerworld.checkpoint.pieces import Piece, Pieces, bounds, piece
from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.team import ALONE, Team

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extra:
    """What a loop may save beside model and optimiser."""

    average: Mapping[str, Tensor] = field(default_factory=dict)  # by the parameters' names
    progress: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    team: Team = ALONE
    sharded: bool = False  # are the parameters spread over the processes of the team?


# ---------------------------------------------------------------------- weights


def distinct(model: Learns) -> dict[str, Tensor]:
    """Parameters and buffers by name; of tied ones the first name only, for the constructor ties them again."""
    first = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(f"cannot save {name!r} of {type(model).__name__}: it is no tensor; keep it in the Config")
        if name in first:
            tensors[name] = value
    return tensors


def fill(wanted: Mapping[str, Tensor], saved: Pieces, where: str, family: str, sharded: bool = False) -> None:
    """Copy what was saved into tensors, in place. Raises `UserError` that lists what does not fit."""
    names = saved.names()
    differences = [f"{name} is missing" for name in wanted if name not in saved.shapes]
    differences += [f"{name} is unexpected" for name in names if name not in wanted]
    own = {name: piece(value, sharded) for name, value in wanted.items()}
    found: dict[str, Tensor] = {}
    for name in own.keys() & saved.shapes.keys():
        if saved.shapes[name] == own[name].shape:
            found[name] = saved.read(name, *_rows(own[name]))
        if name not in found or found[name].dtype != own[name].rows.dtype:
            dtype = (found[name] if name in found else saved.read(name)).dtype
            told, expected = _kind(saved.shapes[name], dtype), _kind(own[name].shape, own[name].rows.dtype)
            differences.append(f"{name} is {told}, expected {expected}")
    if differences:
        more = f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise UserError(f"{where} does not fit {family}: {'; '.join(sorted(differences)[:4])}{more}")
    with torch.no_grad():
        for name, value in own.items():
            value.rows.copy_(found[name])


def _rows(own: Piece) -> tuple[int, int | None]:
    return (0, None) if own.whole else (own.start, own.start + own.rows.shape[0])


def _kind(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{shape} {str(dtype).removeprefix('torch.')}"


# ---------------------------------------------------------------------- the optimiser's memory


def memory(model: Learns, optimiser: Optimizer | None) -> tuple[dict[str, Tensor], dict[str, float]]:
    """As `<parameter>/<what>`: tensors, and numbers apart from them."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, float] = {}
    names = _names(model, optimiser)
    for parameter, remembered in optimiser.state.items() if optimiser else ():
        for what, value in remembered.items():
            key = f"{names[parameter]}/{what}"
            if isinstance(value, Tensor):
                tensors[key] = value
            elif isinstance(value, int | float):
                scalars[key] = value
            else:
                raise UserError(f"cannot save {key!r} of {type(optimiser).__name__}: neither a tensor nor a number")
    return tensors, scalars


def restore_memory(model: Learns, optimiser: Optimizer, saved: Pieces, where: str, sharded: bool = False) -> None:
    """The optimiser's memory, by the names that `memory` gave it."""
    names = _names(model, optimiser)
    order = {names[parameter]: parameter for group in optimiser.param_groups for parameter in group["params"]}
    remembered: dict[str, dict[str, Any]] = {}
    keys = [key for key in saved.names() if not key.startswith("random/")]
    for key in [*keys, *saved.scalars]:
        name, _, what = key.rpartition("/")
        if name not in order:
            raise UserError(f"{where} does not fit: it remembers {name!r}, which is not being trained")
        value = saved.scalars[key] if key in saved.scalars else _like(order[name], saved, key, sharded)
        remembered.setdefault(name, {})[what] = value
    state = {index: remembered[name] for index, name in enumerate(order) if name in remembered}
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _like(parameter: Tensor, saved: Pieces, key: str, sharded: bool) -> Tensor:
    """A remembered tensor, spread as its parameter is if it has its shape."""
    own = piece(parameter, sharded)
    if saved.shapes[key] != own.shape or own.rows is parameter:
        return saved.read(key)
    from torch.distributed.tensor import DTensor

    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    rows = saved.read(key, *bounds(own.shape[0], mesh.get_local_rank(), mesh.size())).to(own.rows.device)
    return DTensor.from_local(rows, mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride())


def _names(model: Learns, optimiser: Optimizer | None) -> dict[Tensor, str]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimiser.param_groups if optimiser else ():
        for parameter in group["params"]:
            if parameter not in names:
                raise UserError("cannot save: the optimiser holds a parameter that the model does not have")
    return names


# ---------------------------------------------------------------------- random states


def random_states(team: Team = ALONE, gather: bool = True) -> dict[str, Tensor]:
    """Every global generator as `random/<which>`: Python's, NumPy's, torch's on the CPU and on accelerators in use.

    Of a process other than the first as `random/<which>@<rank>`; with `gather` the first gets those of all.
    """
    states = {"cpu": torch.get_rng_state(), "python": _of_python(), "numpy": _of_numpy()}
    if torch.cuda.is_initialized() and team.alone:
        states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    elif torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    if not gather or team.alone:
        return {_key(which, team.rank): state for which, state in states.items()}
    everyones = {which: team.gather(state) for which, state in states.items()}
    return {_key(which, rank): state for which, each in everyones.items() for rank, state in enumerate(each)}


def restore_random(saved: Pieces, team: Team = ALONE) -> bool:
    """Put back this process's own states. False if none were saved for it: the run had fewer processes."""
    mine = [key for key in saved.names() if key.startswith("random/") and key == _key(_which(key), team.rank)]
    for key in mine:
        _restore(_which(key), saved.read(key))
    return bool(mine)


def _key(which: str, rank: int) -> str:
    return f"random/{which}" + (f"@{rank}" if rank else "")


def _which(key: str) -> str:
    return key.removeprefix("random/").partition("@")[0]


def _restore(which: str, state: Tensor) -> None:
    if which == "cpu":
        torch.set_rng_state(state)
    elif which == "python":
        _set_python(state)
    elif which == "numpy":
        _set_numpy(state)
    elif which == "mps" and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state)
    elif which == "cuda" and torch.cuda.is_available():
        torch.cuda.set_rng_state(state)
    elif which.startswith("cuda:") and int(which.removeprefix("cuda:")) < torch.cuda.device_count():
        torch.cuda.set_rng_state(state, which)
    else:
        logger.warning("the run was on %s, which is not here: it continues with other random numbers", which)


def _of_python() -> Tensor:
    version, words, last = random.getstate()
    return torch.tensor([version, *words, np.nan if last is None else last], dtype=torch.float64)  # exact up to 2⁵³


def _set_python(state: Tensor) -> None:
    version, *words, last = state.tolist()
    try:
        random.setstate((int(version), tuple(map(int, words)), None if last != last else last))
    except (TypeError, ValueError) as error:
        raise BrokenCheckpoint(f"the random state of Python cannot be put back: {error}") from None


def _of_numpy() -> Tensor:
    told = np.random.get_state(legacy=False)
    assert isinstance(told, dict)
    numbers = [*told["state"]["key"].tolist(), told["state"]["pos"], told["has_gauss"], told["gauss"]]
    return torch.tensor(numbers, dtype=torch.float64)


def _set_numpy(state: Tensor) -> None:
    *words, at, has, last = state.tolist()
    try:
        np.random.set_state(("MT19937", np.array(words, np.uint32), int(at), int(has), last))
    except (TypeError, ValueError) as error:
        raise BrokenCheckpoint(f"the random state of NumPy cannot be put back: {error}") from None
