"""RLDS (arXiv 2111.02767): episodes as TFRecord, their structure in the `features.json` that TFDS writes beside."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.inside import check_room, inside
from innerworld.data.importers.picture import decode
from innerworld.data.importers.recording import Episode, ImportConfig, Recording, Take
from innerworld.data.importers.tfrecord import Feature, example, read_record, spans
from innerworld.data.store.store import About
from innerworld.errors import UserError

FEATURES = "features.json"
MOST_JSON = 50_000_000
SEEN = "steps/observation/"
DONE = "steps/action"


class RldsConfig(ImportConfig):
    """A folder of `*.tfrecord*` with `features.json`, or one such file beside it."""

    action: tuple[str, ...] | None = Field(
        default=None, description="parts of a step that make its action, joined; null: all at or below action"
    )
    extra: tuple[str, ...] = Field(default=(), description="parts of a step that are sensors besides its observation")
    split: str | None = Field(default=None, description="only files with this in their name, such as train; null: all")
    fps: float | None = Field(default=None, gt=0, description="steps per second, which the files do not say")


@dataclass(frozen=True)
class Part:
    """One leaf of a step, as features.json describes it."""

    shape: tuple[int, ...]
    dtype: str
    picture: bool
    encoding: str


def open_rlds(path: Path, config: RldsConfig) -> Recording:
    """Open all records. What is seen is named by its place in the observation (`image_0`, `arm.joints`).

    The last step of an episode has no outcome: its action is left out, and whether the world ended there is kept.
    """
    folder, files = _files(path, config)
    parts = _parts(folder / FEATURES)
    sensors, left_out = _sensors(parts, config)
    actions = _actions(parts, config)
    episodes: list[Episode] = []
    takes: list[Any] = []
    for file in files:
        for i, span in enumerate(spans(file)):
            name = f"{file.name} record {i}"
            if isinstance(span, str):
                episodes.append(Episode(name, partial(_lost, span)))
                continue
            episodes.append(Episode(name, partial(_take, file, span, parts, sensors, actions, config)))
            takes.append(partial(_take, file, span, parts, {}, actions, config))
    about = About(env=folder.name, fps=config.fps, more={"source": path.name, "left_out": left_out})
    acted = (lambda read: read().action[:]) if actions else None
    bounds = None if acted is None else lambda: measured(partial(acted, read) for read in takes)
    return Recording(about, episodes, bounds=bounds)


def looks_like_rlds(path: Path) -> bool:
    if path.is_file():
        return ".tfrecord" in path.name
    return next(path.glob("*.tfrecord*"), None) is not None


def _files(path: Path, config: RldsConfig) -> tuple[Path, list[Path]]:
    folder = path.parent if path.is_file() else path
    names = [path.name] if path.is_file() else sorted(file.name for file in path.glob("*.tfrecord*"))
    files = [
        inside(folder, name, config.follow_links) for name in names if config.split is None or config.split in name
    ]
    if not files:
        raise UserError(f"{path} has no .tfrecord files" + (f" of split {config.split!r}" if config.split else ""))
    if not (folder / FEATURES).is_file():
        raise UserError(f"{folder} has no {FEATURES}, which says what is in its records: TFDS writes it beside them")
    return folder, files


def _lost(why: str) -> Take:
    raise UserError(why)


# ---------------------------------------------------------------------- features.json


def _parts(file: Path) -> dict[str, Part]:
    """The leaves of a step by their path. Raises `UserError` for what is no RLDS."""
    try:
        if file.stat().st_size > MOST_JSON:
            raise UserError(f"{file} is too large")
        tree = json.loads(file.read_bytes())
        steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        return dict(_leaves(steps, "steps"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is corrupt, or not of RLDS, which has steps: {error!r}") from error


def _leaves(node: Mapping[str, Any], path: str) -> list[tuple[str, Part]]:
    if "featuresDict" in node:
        children = node["featuresDict"]["features"].items()
        return [leaf for name, child in children for leaf in _leaves(child, f"{path}/{name}")]
    for kind in ("tensor", "image"):
        if kind in node:
            about = node[kind]
            shape = tuple(int(size) for size in about.get("shape", {}).get("dimensions", ()))
            picture = kind == "image"
            dtype = about.get("dtype", "uint8" if picture else "")
            return [(path, Part(shape, dtype, picture, about.get("encoding", "none").lower()))]
    return [(path, Part((), "text" if "text" in node else "other", False, "none"))]


def _readable(part: Part) -> bool:
    if part.picture:
        return part.dtype == "uint8" and len(part.shape) == 3 and part.shape[2] in (1, 3, 4)
    try:
        return np.dtype(part.dtype).kind in "biuf" and min(part.shape, default=1) > 0
    except TypeError:
        return False


def _sensors(parts: Mapping[str, Part], config: RldsConfig) -> tuple[dict[str, str], list[str]]:
    """Sensors and where each lies; and what is seen but cannot be kept, such as texts and pictures of depth."""
    seen = {path.removeprefix(SEEN).replace("/", "."): path for path in parts if path.startswith(SEEN)}
    seen |= {"observation": "steps/observation"} if "steps/observation" in parts else {}
    for name in config.extra:
        if f"steps/{name}" not in parts:
            raise UserError(f"a step has no {name!r}; there are: {', '.join(p.removeprefix('steps/') for p in parts)}")
        seen[name.replace("/", ".")] = f"steps/{name}"
    good = {name: path for name, path in sorted(seen.items()) if _readable(parts[path])}
    if not good:
        raise UserError(f"no observation can be kept; there are: {', '.join(seen) or 'none'}")
    if config.sensors is not None and all(name in good for name in config.sensors):
        good = {name: good[name] for name in config.sensors}
    return good, sorted(seen.keys() - good.keys()) if config.sensors is None else []


def _actions(parts: Mapping[str, Part], config: RldsConfig) -> list[str]:
    if config.action is not None:
        found = [f"steps/{name}" for name in config.action]
    else:
        found = sorted(path for path in parts if path == DONE or path.startswith(DONE + "/"))
    for path in found:
        if path not in parts or not _readable(parts[path]) or parts[path].picture:
            raise UserError(f"{path.removeprefix('steps/')!r} cannot be an action: it is missing, or no numbers")
    return found


# ---------------------------------------------------------------------- records


def _take(
    file: Path,
    span: tuple[int, int],
    parts: Mapping[str, Part],
    sensors: Mapping[str, str],
    actions: list[str],
    config: RldsConfig,
) -> Take:
    if span[1] > config.most_bytes:
        check_room(f"{file} at byte {span[0]}", (span[1],), 1, config.most_bytes)
    found = example(read_record(file, *span))
    steps = _steps(found, parts)
    read = lambda path: _values(found, path, parts[path], steps, config)
    obs = {name: read(path) for name, path in sensors.items()}
    action = [read(path).reshape(steps, -1)[:-1] for path in actions]
    reward = read("steps/reward")[:-1] if "steps/reward" in parts and "steps/reward" in found else None
    ended = read("steps/is_terminal")[1:] if "steps/is_terminal" in parts and "steps/is_terminal" in found else None
    for flag, at in (("steps/is_first", 0), ("steps/is_last", steps - 1)):
        # An episode cut out of a longer one has it nowhere.
        if flag in parts and flag in found and np.flatnonzero(read(flag)).tolist() not in ([], [at]):
            raise UserError(f"{flag.removeprefix('steps/')} is true at a step other than {at} of {steps}")
    return Take(obs, np.concatenate(action, axis=1) if action else None, reward, ended)


def _steps(found: Mapping[str, Feature], parts: Mapping[str, Part]) -> int:
    """How many steps the record has; all that is known of it has to agree."""
    counts: dict[str, int] = {}
    for path, part in parts.items():
        if path in found and (part.picture or part.dtype == "text" or _readable(part)):
            each = 1 if isinstance(found[path], list) else math.prod(part.shape)
            if each and len(found[path]) % each == 0:
                counts[path] = len(found[path]) // each
            else:
                raise UserError(f"{path} has {len(found[path])} numbers, which is no multiple of {part.shape}")
    if not counts:
        raise UserError("the record has none of the parts that features.json names")
    if len(set(counts.values())) != 1:
        raise UserError(f"its parts have different numbers of steps: {counts}")
    return next(iter(counts.values()))


def _values(found: Mapping[str, Feature], path: str, part: Part, steps: int, config: RldsConfig) -> np.ndarray:
    if path not in found:
        raise UserError(f"the record has no {path}")
    value = found[path]
    shape = (steps, *part.shape)
    if part.picture:
        if not isinstance(value, list):
            raise UserError(f"{path} holds no pictures")
        return _pictures(path, value, part.shape, config)
    if not _readable(part):
        raise UserError(f"{path} is of type {part.dtype!r} and shape {part.shape}, expected numbers")
    dtype = np.dtype(part.dtype)
    check_room(path, shape, dtype.itemsize, config.most_bytes)
    if isinstance(value, list):
        value = np.frombuffer(b"".join(_unpacked(path, each, part, dtype) for each in value), dtype)
    if value.size != math.prod(shape):
        raise UserError(f"{path} has {value.size} numbers, expected {shape}")
    return value.reshape(shape).astype(dtype)


def _unpacked(path: str, raw: bytes, part: Part, dtype: np.dtype) -> bytes:
    """A tensor that was stored as bytes, by TFDS compressed or not."""
    expected = math.prod(part.shape) * dtype.itemsize
    if part.encoding == "zlib":
        try:
            raw = zlib.decompressobj().decompress(raw, expected + 1)
        except zlib.error as error:
            raise UserError(f"{path} is corrupt: {error}") from error
    if len(raw) != expected or part.encoding not in ("zlib", "bytes"):
        raise UserError(f"{path} has {len(raw)} bytes ({part.encoding}), expected {expected}")
    return raw


def _pictures(path: str, raw: list[bytes], shape: tuple[int, ...], config: RldsConfig) -> np.ndarray:
    if not raw:
        raise UserError(f"{path} has no pictures")
    first = decode(raw[0], shape[2])
    if any(want not in (-1, 0, got) for want, got in zip(shape, first.shape, strict=True)):
        raise UserError(f"{path} has pictures of {first.shape}, features.json says {shape}")
    check_room(path, (len(raw), *first.shape), 1, config.most_bytes)
    out = np.empty((len(raw), *first.shape), np.uint8)
    for i, each in enumerate(raw):
        value = first if i == 0 else decode(each, shape[2], first.shape[0] * first.shape[1])
        if value.shape != first.shape:
            raise UserError(f"{path} has pictures of {value.shape} and {first.shape}")
        out[i] = value
    return out
