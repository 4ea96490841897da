"""Reading: a model from a run's newest whole checkpoint, or a run put back to where it was."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import overload

import torch
from torch.optim import Optimizer

from innerworld.checkpoint.folder import (
    AVERAGE,
    CONFIG,
    OPTIMISER,
    WEIGHTS,
    exists,
    files_of,
    home_of,
    is_checkpoint,
    name,
    newest_whole,
    read_json,
    verify,
)
from innerworld.checkpoint.header import FORMAT, Families, Header, build_model, refuse_another, refuse_difference
from innerworld.checkpoint.pieces import Pieces
from innerworld.checkpoint.save import BEST
from innerworld.checkpoint.state import Extra, distinct, fill, restore_memory, restore_random
from innerworld.config import Config, build
from innerworld.errors import UserError
from innerworld.learns import L, Learns


@overload
def load(
    path: Path | str,
    models: Families | None = None,
    device: torch.device | str = "cpu",
    ema: bool = False,
    best: bool = False,
    changes: Sequence[str] = (),
) -> Learns: ...
@overload
def load(
    path: Path | str,
    models: Families | None = None,
    device: torch.device | str = "cpu",
    ema: bool = False,
    best: bool = False,
    changes: Sequence[str] = (),
    *,
    kind: type[L],
) -> L: ...
def load(
    path: Path | str,
    models: Families | None = None,
    device: torch.device | str = "cpu",
    ema: bool = False,
    best: bool = False,
    changes: Sequence[str] = (),
    *,
    kind: type[Learns] = Learns,
) -> Learns:
    """Build a model or an encoder from a run's folder (its newest whole checkpoint) or from one checkpoint's folder.

    `models` names classes from outside the library; `ema` takes the moving average of the parameters, `best` the
    run's best checkpoint; `changes`, such as `steps=16`, are to how it draws (`Learns.sampling`); `kind` is what it
    must be; it comes in eval mode. A broken newest checkpoint is skipped with a warning, unless the path names it.
    Raises `UserError` when nothing whole is there, for a newer format, an unknown family or one of another kind,
    weights that do not fit, changes to what was learnt with, or an average or best that was not kept.
    """

    def read(folder: Path) -> Learns:
        header = _read_header(folder)
        weights = _pieces(folder, WEIGHTS)
        average = _average(folder) if ema else None
        with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not disturb the caller
            model = build_model(header, str(folder / CONFIG), models, changes)
        if not isinstance(model, kind):
            raise UserError(f"{path} holds a {header.family!r}, which is no {kind.__name__}: give another run")
        fill(distinct(model), weights, str(folder / "weights.safetensors"), type(model).__name__)
        if average is not None:
            own = {name: p for name, p in model.named_parameters() if name in average.shapes}
            fill(own, average, str(folder / "average.safetensors"), type(model).__name__)
        return model.to(device).eval()

    return newest_whole(_best(Path(path)) if best else Path(path), read)


def init_from(path: Path | str, model: Learns) -> None:
    """Give a fresh model the weights of a taught one, to go on learning from there with other settings or data.

    `path` is the folder of a run, whose newest whole checkpoint counts, or of one checkpoint. Raises `UserError` for
    one of another family or spec, and for weights that do not fit the model's settings.
    """

    def read(folder: Path) -> None:
        refuse_another(_read_header(folder), path, model, "begin with its weights")
        fill(distinct(model), _pieces(folder, WEIGHTS), str(folder / "weights.safetensors"), type(model).__name__)

    newest_whole(Path(path), read)


def resume(
    folder: Path | str, model: Learns, optimiser: Optimizer, train: Config, free: Collection[str] = ()
) -> int | None:
    """Put model, optimiser and random states back to the newest whole checkpoint of a run; the steps it did.

    None when the run has none yet. Raises `UserError` when the run was made by another family, configuration or
    spec (but the fields of `train` in `free` may differ), naming the first field that differs.
    """
    found = restore(folder, model, optimiser, train, free)
    return found[0].step if found is not None else None


def restore(
    folder: Path | str,
    model: Learns,
    optimiser: Optimizer,
    train: Config,
    free: Collection[str] = (),
    extra: Extra = Extra(),
) -> tuple[Header, bool] | None:
    """As `resume`, with the average in `extra`, for a team of processes: all must call it.

    Gives the header, and whether there was a random state for this process.
    """

    def put_back(checkpoint: Path) -> tuple[Header, bool]:
        header = _read_header(checkpoint)
        refuse_difference(header, checkpoint, model, train, free)
        weights, remembered = _pieces(checkpoint, WEIGHTS), _pieces(checkpoint, OPTIMISER)
        average = _average(checkpoint) if extra.average else None
        family, sharded = type(model).__name__, extra.sharded
        fill(distinct(model), weights, str(checkpoint / "weights.safetensors"), family, sharded)
        if average is not None:
            fill(extra.average, average, str(checkpoint / "average.safetensors"), family, sharded)
        restore_memory(model, optimiser, remembered, str(checkpoint / "optimiser.safetensors"), sharded)
        return header, restore_random(remembered, extra.team)

    if is_checkpoint(Path(folder)):
        raise UserError(f"cannot resume from one checkpoint: give the folder of the run, {Path(folder).parent.parent}")
    if not exists(folder):
        return None
    found: tuple[Header, bool] | None = None
    with extra.team.together():  # the first looks for the newest whole one, the others follow
        if extra.team.rank == 0:
            found = newest_whole(Path(folder), put_back)
    step = extra.team.highest(found[0].step if found is not None else -1)[0]
    with extra.team.together():
        if found is None:
            found = put_back(home_of(folder) / name(step))
    return found


def read_header(path: Path | str) -> Header:
    """What the newest whole checkpoint says about itself, without its weights. Raises `UserError` as `load` does."""
    return newest_whole(Path(path), _read_header)


def _read_header(folder: Path) -> Header:
    verify(folder / CONFIG)
    values = read_json(folder / CONFIG)
    version = values.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{folder / CONFIG}: format {version!r} is newer than this innerworld reads ({FORMAT}): upgrade innerworld"
        )
    return build(Header, values, str(folder / CONFIG))


def _pieces(folder: Path, kind: str) -> Pieces:
    """The tensors of one kind, once their checksums are right."""
    paths = files_of(folder, kind)
    for path in paths:
        verify(path)
    return Pieces(paths)


def _average(folder: Path) -> Pieces:
    if not any(each.startswith(AVERAGE) for each in read_json(folder / "manifest.json")):
        raise UserError(f"{folder} holds no moving average of the weights: train with train.ema=0.999")
    return _pieces(folder, AVERAGE)


def _best(run: Path) -> Path:
    try:
        step = json.loads((run / BEST).read_bytes())["step"]
        return home_of(run) / name(int(step))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run} names no best checkpoint: train with train.best=loss") from None
