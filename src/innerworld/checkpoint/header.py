"""What a checkpoint says about itself: `config.json`, the family that it names, and whether a run may go on with it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from innerworld.config import Config, build, flat, override
from innerworld.errors import UserError, choose, nearest
from innerworld.learns import Learns
from innerworld.types import Spec
from innerworld.version import VERSION

FORMAT = 2
"""2 (of 0.2) may be spread over files, and tells processes, scores and progress; 1 is read, too."""
Families = Mapping[str, type[Learns]]


class SpecHeader(Config):
    """A `Spec` in JSON."""

    obs: dict[str, tuple[int, ...]] = Field(default={}, description="shape of each sensor")
    action: int = Field(default=1, description="size of an action")
    discrete: bool = Field(default=False, description="whether actions are choices")


class Header(Config):
    """What `config.json` holds. `family` is looked up among known classes, never imported."""

    format: int = Field(default=FORMAT, description="version of this layout")
    innerworld: str = Field(default="", description="version of the library that wrote it")
    family: str = Field(default="", description="name in the registry, else of the class")
    model: dict[str, Any] = Field(default={}, description="the family's configuration")
    spec: SpecHeader = Field(default=SpecHeader(), description="the world it was built for")
    train: dict[str, Any] | None = Field(default=None, description="the training's configuration")
    step: int = Field(default=0, description="optimiser steps done")
    processes: int = Field(default=1, description="how many trained together")
    progress: dict[str, int] = Field(default={}, description="what the loop remembers beside the weights")
    scores: dict[str, float] = Field(
        default={}, description="what was measured since the checkpoint before, on average"
    )
    commit: str | None = Field(default=None, description="git commit of the folder it was trained in")
    created: str = Field(default="", description="time of writing, UTC")


def describe(model: Learns, step: int, train: Config | None, **more: Any) -> Header:
    spec = model.spec
    return Header(
        innerworld=VERSION,
        family=_family(type(model)),
        model=model.config.model_dump(mode="json"),
        spec=SpecHeader(obs=spec.obs, action=spec.action, discrete=spec.discrete),
        train=None if train is None else train.model_dump(mode="json"),
        step=step,
        commit=_git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    )


def build_model(header: Header, where: str, models: Families | None, changes: Sequence[str] = ()) -> Learns:
    """A fresh model of the kind that the header names, with `changes`, `a.b=value` words, to how it draws.

    Raises `UserError` for an unknown family or key, and for changes to what was learnt with.
    """
    kind = _choose_family(header.family, models)
    config = build(kind.Config, header.model, f"{where}: model")
    may = kind.sampling_of(config)
    for word in changes:
        key = word.partition("=")[0]
        if key not in may:
            known, close = ", ".join(may) or "nothing", nearest(key, [*may])
            raise UserError(f"of a taught {header.family} {key!r} stays as it is.{close} May change: {known}")
    config = override(config, changes)
    return kind(config, Spec(header.spec.obs, header.spec.action, header.spec.discrete))


def refuse_another(header: Header, run: Path | str, model: Learns, doing: str) -> None:
    """Raise `UserError`, which says that one cannot be `doing` it, for another family or what perceives otherwise."""
    family, spec = _family(type(model)), Spec(header.spec.obs, header.spec.action, header.spec.discrete)
    if header.family != family:
        raise UserError(f"cannot {doing}: the run in {run} is a {header.family!r}, this is a {family!r}")
    if spec != model.spec:
        raise UserError(f"cannot {doing}: the run was made for {spec}, this is {model.spec}")


def refuse_difference(header: Header, folder: Path, model: Learns, train: Config, free: Collection[str]) -> None:
    """Raise `UserError` where a run would not go on as itself, naming the first field that differs."""
    where = str(folder / "config.json")
    refuse_another(header, folder.parent.parent, model, "resume")
    pairs = {"model": (build(type(model.config), header.model, f"{where}: model"), model.config)}
    if header.train is not None:
        pairs["train"] = (build(type(train), header.train, f"{where}: train"), train)
    for part, (old, new) in pairs.items():
        before, now = (flat(each.model_dump(mode="json")) for each in (old, new))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and not (part == "train" and key in free):
                was, given = before.get(key), now.get(key)
                raise UserError(
                    f"cannot resume: {part} {key} was {was!r}, now {given!r}: give the former, or start anew"
                )


def _family(kind: type[Learns]) -> str:
    """Its name in the registry, or the class's own name for one from outside the library."""
    if not kind.__module__.startswith("innerworld."):
        return kind.__name__
    from innerworld.families import FAMILIES  # late: the registry imports every family

    return next((name for name, known in FAMILIES.items() if known is kind), kind.__name__)


def _choose_family(name: str, models: Families | None) -> type[Learns]:
    if models is not None and name in models:
        return models[name]
    from innerworld.families import FAMILIES  # late: the registry imports every family

    return choose("family", name, {**FAMILIES, **(models or {})})


@cache
def _git_commit() -> str | None:
    """The commit of the working folder, "-dirty" after it if changed; None where there is none. Once per process."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
