"""A checkpoint is a folder of safetensors and JSON with checksums: it appears whole or not at all, and runs no code.

<run>/checkpoints/step-00001000/
    config.json             what to build: format, family, its configuration and spec, the training's, the step
    weights.safetensors     parameters and buffers
    optimiser.safetensors   the optimiser's memory and the random states: what an exact resume needs
    manifest.json           size and sha256 of the other three, written last
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from innerworld.config import Config, build, dotted
from innerworld.disk import reason, sync
from innerworld.errors import UserError, choose
from innerworld.types import Spec
from innerworld.version import VERSION
from innerworld.world import WorldModel

FORMAT = 1
CONFIG, WEIGHTS, OPTIMISER, MANIFEST = "config.json", "weights.safetensors", "optimiser.safetensors", "manifest.json"
_STEP = re.compile(r"step-\d+")
Families = Mapping[str, type[WorldModel]]
T = TypeVar("T")
logger = logging.getLogger(__name__)


class BrokenCheckpoint(UserError):
    """A file of a checkpoint is missing, cut short or changed."""


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
    commit: str | None = Field(default=None, description="git commit of the folder it was trained in")
    created: str = Field(default="", description="time of writing, UTC")


# ---------------------------------------------------------------------- writing


def save(
    folder: Path | str, model: WorldModel, optimiser: Optimizer | None, step: int, train: Config | None, keep: int = 3
) -> Path:
    """Write the checkpoint of `step` done steps under the run's `folder`, then delete all but the newest `keep`.

    Also sweeps what a killed process left half-written. Raises `UserError`, with all earlier checkpoints intact,
    when the disk is full or not writable, or when a weight is not finite.
    """
    _refuse_non_finite(model, step)
    home = Path(folder) / "checkpoints"
    final = home / _name(step)
    tmp = home / f".tmp-{final.name}-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        tmp.mkdir()
        _write(tmp, model, optimiser, _header(model, step, train))
        _commit(tmp, final)
        _prune(home, step, keep)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(tmp, ignore_errors=True)
        raise UserError(
            f"cannot save the checkpoint of step {step} in {home}: {_reason(error)}. "
            "Earlier checkpoints are intact: continue with --resume"
        ) from None
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    return final


def _refuse_non_finite(model: WorldModel, step: int) -> None:
    """Parameters only: a buffer may hold infinities on purpose, as an attention mask does."""
    for name, value in model.named_parameters():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise UserError(f"step {step}: weight {name!r} is not finite, so nothing was saved. Lower lr")


def _write(folder: Path, model: WorldModel, optimiser: Optimizer | None, header: Header) -> None:
    _write_json(folder / CONFIG, header.model_dump(mode="json"))
    _write_tensors(folder / WEIGHTS, _distinct(model), {"format": "pt"})
    tensors, scalars = _memory(model, optimiser)
    _write_tensors(folder / OPTIMISER, tensors | _random_states(), {"scalars": json.dumps(scalars)})
    _write_json(folder / MANIFEST, {name: _fingerprint(folder / name) for name in (CONFIG, WEIGHTS, OPTIMISER)})


def _header(model: WorldModel, step: int, train: Config | None) -> Header:
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
    )


def _distinct(model: WorldModel) -> dict[str, Tensor]:
    """Parameters and buffers by name; of tied ones the first name only, for the constructor ties them again."""
    seen: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(f"cannot save {name!r} of {type(model).__name__}: it is no tensor; keep it in the Config")
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() == 0 or seen.setdefault(same, name) == name:
            tensors[name] = value
    return tensors


def _memory(model: WorldModel, optimiser: Optimizer | None) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The optimiser's memory as `<parameter>/<what>`: tensors, and numbers apart from them."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, float] = {}
    names = _names(model, optimiser)
    for parameter, memory in optimiser.state.items() if optimiser else ():
        for what, value in memory.items():
            key = f"{names[parameter]}/{what}"
            if isinstance(value, Tensor):
                tensors[key] = value
            elif isinstance(value, int | float):
                scalars[key] = value
            else:
                raise UserError(f"cannot save {key!r} of {type(optimiser).__name__}: neither a tensor nor a number")
    return tensors, scalars


def _names(model: WorldModel, optimiser: Optimizer | None) -> dict[Tensor, str]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimiser.param_groups if optimiser else ():
        for parameter in group["params"]:
            if parameter not in names:
                raise UserError("cannot save: the optimiser holds a parameter that the model does not have")
    return names


def _random_states() -> dict[str, Tensor]:
    """torch's global generators, as `random/<device>`: of the CPU, and of the accelerators in use."""
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"random/cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["random/mps"] = torch.mps.get_rng_state()
    return states


def _write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    # A clone each: safetensors refuses views that share memory, and strides do not survive it.
    whole = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    save_file(whole, path, header)
    sync(path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    sync(path)


def _commit(tmp: Path, final: Path) -> None:
    """Give the finished folder its name: from here on it exists. A broken one of the same step makes way."""
    sync(tmp)
    if final.exists():
        _remove(final)
    os.rename(tmp, final)
    sync(final.parent)


def _prune(home: Path, step: int, keep: int) -> None:
    """Delete all but the `keep` newest up to `step`, which was just written and always stays.

    Later ones cannot have come from this run unless they are broken: they neither count nor go.
    """
    upto = [path for path in _steps(home) if _step_of(path) <= step]
    for path in upto[max(1, keep) :]:
        _remove(path)


def _remove(path: Path) -> None:
    """By way of a `.tmp` name, so that a kill in between leaves no half checkpoint."""
    away = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
    os.rename(path, away)
    shutil.rmtree(away)


def _sweep(home: Path) -> None:
    for path in home.glob(".tmp-*"):
        shutil.rmtree(path)


def _reason(error: Exception) -> str:
    """safetensors wraps the operating system's error into text of its own."""
    if "os error 28" in str(error):
        return "no space left: make room"
    return reason(error) if isinstance(error, OSError) else str(error)


# ---------------------------------------------------------------------- reading


def load(path: Path | str, models: Families | None = None, device: torch.device | str = "cpu") -> WorldModel:
    """Build a model from a run's folder (its newest checkpoint that is whole) or from one checkpoint's folder.

    `models` names classes from outside the library; the model comes in eval mode. A broken newest checkpoint is
    skipped with a warning, unless the path names it. Raises `UserError` when nothing whole is there, for a newer
    format, an unknown family, or weights that do not fit.
    """

    def read(folder: Path) -> WorldModel:
        header = _read_header(folder)
        _verify(folder, WEIGHTS)
        kind = _choose_family(header.family, models)
        config = build(kind.Config, header.model, f"{folder / CONFIG}: model")
        with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not disturb the caller
            model = kind(config, Spec(header.spec.obs, header.spec.action, header.spec.discrete))
        _fill(model, folder)
        return model.to(device).eval()

    return _newest_whole(Path(path), read)


def resume(
    folder: Path | str, model: WorldModel, optimiser: Optimizer, train: Config, free: Collection[str] = ()
) -> int | None:
    """Put model, optimiser and torch's random state back to the newest whole checkpoint of a run; the steps it did.

    None when the run has none yet. Raises `UserError` when the run was made by another family, configuration or
    spec (but the fields of `train` in `free` may differ), naming the first field that differs.
    """

    def restore(checkpoint: Path) -> int:
        header = _read_header(checkpoint)
        _refuse_difference(header, checkpoint, model, train, free)
        _verify(checkpoint, WEIGHTS)
        _verify(checkpoint, OPTIMISER)
        _fill(model, checkpoint)
        _restore_memory(model, optimiser, checkpoint)
        return header.step

    if _is_checkpoint(Path(folder)):
        raise UserError(f"cannot resume from one checkpoint: give the folder of the run, {Path(folder).parent.parent}")
    return _newest_whole(Path(folder), restore) if exists(folder) else None


def exists(folder: Path | str) -> bool:
    """Is there any checkpoint in the run's folder?"""
    return bool(_steps(Path(folder) / "checkpoints"))


def read_header(path: Path | str) -> Header:
    """What the newest whole checkpoint says about itself, without its weights. Raises `UserError` as `load` does."""
    return _newest_whole(Path(path), _read_header)


def _newest_whole(path: Path, read: Callable[[Path], T]) -> T:
    """Read the checkpoint that `path` names, or the newest of a run that is not broken; older ones need a warning."""
    if _is_checkpoint(path):
        return read(path)
    folders = _steps(path / "checkpoints") or _steps(path)
    broken: list[BrokenCheckpoint] = []
    for folder in folders:
        try:
            value = read(folder)
        except BrokenCheckpoint as error:
            broken.append(error)
            continue
        if broken:
            logger.warning("%s; using %s instead", "; ".join(map(str, broken)), folder.name)
        return value
    if broken:
        raise BrokenCheckpoint(f"no checkpoint in {path} is whole: {broken[0]}")
    raise UserError(f"no checkpoint in {path}: give the folder of a run, or of one of its checkpoints")


def _is_checkpoint(path: Path) -> bool:
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP.fullmatch(path.name) is not None)


def _steps(home: Path) -> list[Path]:
    """The checkpoints, newest first."""
    found = [path for path in home.glob("step-*") if _STEP.fullmatch(path.name)]
    return sorted(found, key=_step_of, reverse=True)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read_header(folder: Path) -> Header:
    _verify(folder, CONFIG)
    values = _read_json(folder / CONFIG)
    version = values.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{folder / CONFIG}: format {version!r} is newer than this innerworld reads ({FORMAT}): upgrade innerworld"
        )
    return build(Header, values, str(folder / CONFIG))


def _verify(folder: Path, name: str) -> None:
    """Compare a file with the manifest. Raises `BrokenCheckpoint` that names the file."""
    path = folder / name
    told = _read_json(folder / MANIFEST).get(name)
    try:
        found = _fingerprint(path)
    except OSError:
        raise BrokenCheckpoint(f"{path} is missing or cannot be read") from None
    if not isinstance(told, dict):
        raise BrokenCheckpoint(f"{folder / MANIFEST} does not name {name}")
    if found["bytes"] != told.get("bytes"):
        raise BrokenCheckpoint(f"{path} is broken: {found['bytes']} bytes instead of {told.get('bytes')}")
    if found["sha256"] != told.get("sha256"):
        raise BrokenCheckpoint(f"{path} is broken: its sha256 is not the one in {MANIFEST}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError:
        raise BrokenCheckpoint(f"{path} is missing or cannot be read") from None
    except (ValueError, RecursionError):
        raise BrokenCheckpoint(f"{path} is broken: it is not JSON") from None
    if not isinstance(value, dict):
        raise BrokenCheckpoint(f"{path} is broken: it is not a JSON object")
    return value


def _fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fill(model: WorldModel, folder: Path) -> None:
    """Copy the weights into a model, in place. Raises `UserError` that lists what does not fit."""
    saved = _read_tensors(folder / WEIGHTS)
    wanted = _distinct(model)
    differences = [f"{name} is missing" for name in wanted if name not in saved]
    differences += [f"{name} is unexpected" for name in saved if name not in wanted]
    for name in wanted.keys() & saved.keys():
        if _kind(saved[name]) != _kind(wanted[name]):
            differences.append(f"{name} is {_kind(saved[name])}, expected {_kind(wanted[name])}")
    if differences:
        more = f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
        family = type(model).__name__
        raise UserError(f"{folder / WEIGHTS} does not fit {family}: {'; '.join(sorted(differences)[:4])}{more}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(saved[name])


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BrokenCheckpoint(f"{path} is broken: {error}") from None


def _restore_memory(model: WorldModel, optimiser: Optimizer, folder: Path) -> None:
    """The optimiser's memory and the random states, by the names that `_memory` and `_random_states` gave them."""
    values: dict[str, Any] = dict(_read_tensors(folder / OPTIMISER))
    with safe_open(folder / OPTIMISER, "pt") as file:
        values |= json.loads((file.metadata() or {}).get("scalars", "{}"))
    for key in [key for key in values if key.startswith("random/")]:
        _restore_random(key.removeprefix("random/"), values.pop(key))
    names = _names(model, optimiser)
    order = [names[parameter] for group in optimiser.param_groups for parameter in group["params"]]
    memory: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        name, _, what = key.rpartition("/")
        memory.setdefault(name, {})[what] = value
    if strange := sorted(set(memory) - set(order)):
        raise UserError(f"{folder / OPTIMISER} does not fit: it remembers {strange[0]!r}, which is not being trained")
    state = {index: memory[name] for index, name in enumerate(order) if name in memory}
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _restore_random(device: str, state: Tensor) -> None:
    if device == "cpu":
        torch.set_rng_state(state)
    elif device == "mps" and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state)
    elif device.startswith("cuda") and int(device.removeprefix("cuda:")) < torch.cuda.device_count():
        torch.cuda.set_rng_state(state, device)
    else:
        logger.warning("the run was on %s, which is not here: it continues with other random numbers", device)


def _refuse_difference(header: Header, folder: Path, model: WorldModel, train: Config, free: Collection[str]) -> None:
    where = str(folder / CONFIG)
    family, spec = _family(type(model)), Spec(header.spec.obs, header.spec.action, header.spec.discrete)
    if header.family != family:
        raise UserError(
            f"cannot resume: the run in {folder.parent.parent} is a {header.family!r}, this is a {family!r}"
        )
    if spec != model.spec:
        raise UserError(f"cannot resume: the run was made for {spec}, this is {model.spec}")
    pairs = {"model": (build(type(model.config), header.model, f"{where}: model"), model.config)}
    if header.train is not None:
        pairs["train"] = (build(type(train), header.train, f"{where}: train"), train)
    for part, (old, new) in pairs.items():
        before, now = _flat(old), _flat(new)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and not (part == "train" and key in free):
                was, given = before.get(key), now.get(key)
                raise UserError(
                    f"cannot resume: {part} {key} was {was!r}, now {given!r}: give the former, or start anew"
                )


def _flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted key."""
    values = config.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for key in dotted(config):
        value: Any = values
        for part in key.split("."):
            value = value[part]
        flat[key] = value
    return flat


# ---------------------------------------------------------------------- where it came from


def _family(kind: type[WorldModel]) -> str:
    """Its name in the registry, or the class's own name for one from outside the library."""
    if not kind.__module__.startswith("innerworld."):
        return kind.__name__
    from innerworld.models import MODELS  # late: the registry imports every family

    return next((name for name, known in MODELS.items() if known is kind), kind.__name__)


def _choose_family(name: str, models: Families | None) -> type[WorldModel]:
    if models is not None and name in models:
        return models[name]
    from innerworld.models import MODELS  # late: the registry imports every family

    return choose("family", name, {**MODELS, **(models or {})})


@cache
def _git_commit() -> str | None:
    """The commit of the working folder, "-dirty" after it if changed; None where there is none. Once per process."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
