"""Small valid logs of every kind that can be imported, generated: to test the importers and to fuzz them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.data.importers.tfrecord import masked


@dataclass(frozen=True)
class Known:
    """What one episode holds, as an importer should see it."""

    obs: dict[str, np.ndarray]  # t+1 ...
    action: np.ndarray  # t a
    reward: np.ndarray  # t
    terminated: np.ndarray  # t


def episodes(count: int = 3, seed: int = 0) -> list[Known]:
    """Episodes of a picture and a state, of 4, 6, 8, ... actions in [-1, 1]; every other one ends the world."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        t = 4 + 2 * i
        obs = {
            "pixels": rng.integers(0, 256, (t + 1, 12, 16, 3), np.uint8),
            "state": rng.normal(size=(t + 1, 5)).astype(np.float32),
        }
        action = rng.uniform(-1, 1, (t, 2)).astype(np.float32)
        ended = (np.arange(t) == t - 1) & (i % 2 == 0)
        found.append(Known(obs, action, rng.normal(size=t).astype(np.float32), ended))
    return found


@dataclass(frozen=True)
class Log:
    """How to write a log of one kind, how to import it, and which of its files a checksum protects."""

    kind: str
    write: Callable[[Path, Sequence[Known]], Path]  # into an empty folder; gives the path to import
    config: Mapping[str, Any] = field(default_factory=dict)
    checked: str = ""  # names of files with this in them cannot be damaged without notice
    exact: bool = True  # frames come back as they were


# ---------------------------------------------------------------------- NumPy archives


def write_npz(folder: Path, known: Sequence[Known]) -> Path:
    for i, each in enumerate(known):
        np.savez_compressed(
            folder / f"{i:03}.npz", action=each.action, reward=each.reward, terminated=each.terminated, **each.obs
        )
    return folder


def write_flat_npz(folder: Path, known: Sequence[Known]) -> Path:
    """As OGBench does: one row for each observation, the action of the last unused."""
    flat = flattened(known)
    flat.pop("reward")
    np.savez(folder / "flat.npz", terminals=flat.pop("last").astype(np.float32), **flat)
    return folder / "flat.npz"


def flattened(known: Sequence[Known]) -> dict[str, np.ndarray]:
    """All rows of all episodes: sensors, action (unused in the last row), reward, and which row is the last."""
    rows: dict[str, list[np.ndarray]] = {}
    for each in known:
        for name, value in each.obs.items():
            rows.setdefault(name, []).append(value)
        rows.setdefault("action", []).append(np.concatenate([each.action, np.zeros((1, 2), np.float32)]))
        rows.setdefault("reward", []).append(np.append(each.reward, np.float32(0)))
        rows.setdefault("last", []).append(np.arange(len(each.action) + 1) == len(each.action))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


# ---------------------------------------------------------------------- Zarr


def write_array(folder: Path, array: np.ndarray, chunks: Sequence[int], codec: Any = None, **other: Any) -> None:
    """A Zarr v2 array, as its specification says."""
    folder.mkdir(parents=True)
    about = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunks),
        "dtype": array.dtype.str,
        "compressor": codec.get_config() if codec else None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        **other,
    }
    (folder / ".zarray").write_text(json.dumps(about))
    for place in product(*(range(-(-size // chunk)) for size, chunk in zip(array.shape, chunks, strict=True))):
        whole = np.zeros(chunks, array.dtype)
        part = array[tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(place, chunks, strict=True))]
        whole[tuple(slice(0, size) for size in part.shape)] = part
        raw = whole.tobytes(about["order"])
        file = folder / about.get("dimension_separator", ".").join(map(str, place))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(codec.encode(raw) if codec else raw)


def write_zarr(folder: Path, known: Sequence[Known]) -> Path:
    from numcodecs import Blosc

    flat, path = flattened(known), folder / "log.zarr"
    ends = np.flatnonzero(flat.pop("last")) + 1
    for name, array in flat.items():
        codec = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
        write_array(path / "data" / name, array, (6, *array.shape[1:]), codec)
    write_array(path / "meta" / "episode_ends", ends.astype(np.int64), (2,), None)
    return path


def write_pusht(folder: Path, known: Sequence[Known]) -> Path:
    """With the names, types and units of the Push-T demonstrations."""
    from numcodecs import Blosc

    flat, path = flattened(known), folder / "pusht_cchi_v7_replay.zarr"
    ends = np.flatnonzero(flat["last"]) + 1
    arrays = {
        "img": flat["pixels"].astype(np.float32),
        "state": flat["state"],
        "action": (flat["action"] + 1) * 256,
        "keypoint": np.zeros((len(flat["state"]), 9, 2), np.float32),
    }
    for name, array in arrays.items():
        write_array(path / "data" / name, array, (6, *array.shape[1:]), Blosc())
    write_array(path / "meta" / "episode_ends", ends.astype(np.int64), (2,), Blosc())
    return path


# ---------------------------------------------------------------------- HDF5


def write_minari(folder: Path, known: Sequence[Known]) -> Path:
    import h5py

    data = folder / "data"
    data.mkdir()
    with h5py.File(data / "main_data.hdf5", "w") as root:
        for i, each in enumerate(known):
            group = root.create_group(f"episode_{i}")
            group.attrs["seed"] = 100 + i
            for name, value in each.obs.items():
                group.create_dataset(f"observations/{name}", data=value, compression="gzip")
            group["actions"], group["rewards"] = each.action, each.reward
            group["terminations"] = each.terminated
            group["truncations"] = np.zeros_like(each.terminated)
    box = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    about = {
        "data_format": "hdf5",
        "dataset_id": "toy/arm-v0",
        "action_space": json.dumps(box),
        "algorithm_name": "SAC",
    }
    (data / "metadata.json").write_text(json.dumps({**about, "env_spec": json.dumps({"id": "Arm-v0"})}))
    return folder


def write_d4rl(folder: Path, known: Sequence[Known]) -> Path:
    """Flat, with what came after every step."""
    import h5py

    ends = np.concatenate([np.arange(len(each.action)) == len(each.action) - 1 for each in known])
    terminals = np.concatenate([each.terminated for each in known])
    with h5py.File(folder / "log.hdf5", "w") as root:
        root["actions"] = np.concatenate([each.action for each in known])
        root["rewards"] = np.concatenate([each.reward for each in known])
        root["terminals"], root["timeouts"] = terminals, ends & ~terminals
        for name in ("pixels", "state"):
            root[f"observations/{name}"] = np.concatenate([each.obs[name][:-1] for each in known])
            root[f"next_observations/{name}"] = np.concatenate([each.obs[name][1:] for each in known])
        root["infos/qpos"] = np.zeros((len(ends), 3))
        root["metadata/algorithm"] = "SAC"
    return folder / "log.hdf5"


def write_robomimic(folder: Path, known: Sequence[Known]) -> Path:
    import h5py

    with h5py.File(folder / "demo.hdf5", "w") as root:
        for i, each in enumerate(known):
            for name, value in each.obs.items():
                root.create_dataset(f"data/demo_{i}/obs/{name}", data=value[:-1], compression="gzip", shuffle=True)
                root[f"data/demo_{i}/next_obs/{name}"] = value[1:]
            root[f"data/demo_{i}/actions"] = each.action.astype(np.float64)
            root[f"data/demo_{i}/rewards"] = each.reward.astype(np.float64)
            root[f"data/demo_{i}/dones"] = each.terminated.astype(np.int64)
    return folder / "demo.hdf5"


def write_swm(folder: Path, known: Sequence[Known]) -> Path:
    """As stable-worldmodel does: reward and end stand beside what they came with, an unused action is NaN."""
    import h5py

    flat = flattened(known)
    last = np.flatnonzero(flat.pop("last"))
    sizes = np.diff(last, prepend=-1)
    flat["action"][last] = np.nan
    shifted = {"reward": [each.reward for each in known], "terminated": [each.terminated for each in known]}
    with h5py.File(folder / "swm.h5", "w") as root:
        for name, value in flat.items():
            if name != "reward":
                root.create_dataset(name, data=value, chunks=(1, *value.shape[1:]))
        for name, parts in shifted.items():
            root[name] = np.concatenate([np.concatenate([np.zeros(1, part.dtype), part]) for part in parts])
        root["ep_len"], root["ep_offset"] = sizes.astype(np.int32), (last + 1 - sizes).astype(np.int64)
        root["step_idx"] = np.concatenate([np.arange(size) for size in sizes])
    return folder / "swm.h5"


# ---------------------------------------------------------------------- RLDS


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def write_example(features: Mapping[str, Any]) -> bytes:
    """A `tf.train.Example`: lists of bytes, arrays of floats, arrays of whole numbers."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, list):
            kind, content = 1, b"".join(_field(1, each) for each in value)
        elif value.dtype.kind == "f":
            kind, content = 2, _field(1, value.astype("<f4").tobytes())
        else:
            kind, content = 3, _field(1, b"".join(_varint(int(each) % 2**64) for each in value.reshape(-1)))
        entries += _field(1, _field(1, name.encode()) + _field(2, _field(kind, content)))
    return _field(1, entries)


def write_record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def png(frame: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


def write_rlds(folder: Path, known: Sequence[Known]) -> Path:
    records = b""
    for each in known:
        t = len(each.action)
        first, last = np.arange(t + 1) == 0, np.arange(t + 1) == t
        records += write_record(
            write_example(
                {
                    "steps/observation/pixels": [png(frame) for frame in each.obs["pixels"]],
                    "steps/observation/state": each.obs["state"],
                    "steps/action": np.concatenate([each.action, np.zeros((1, 2), np.float32)]),
                    "steps/reward": np.append(each.reward, np.float32(0)),
                    "steps/is_first": first.astype(np.int64),
                    "steps/is_last": last.astype(np.int64),
                    "steps/is_terminal": np.append(False, each.terminated).astype(np.int64),
                    "steps/language_instruction": [b"push it"] * (t + 1),
                }
            )
        )
    (folder / "toy-train.tfrecord-00000-of-00001").write_bytes(records)
    (folder / "features.json").write_text(json.dumps(rlds_features()))
    return folder


def rlds_features() -> dict[str, Any]:
    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
        return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": "none"}}

    picture = {"image": {"shape": {"dimensions": ["12", "16", "3"]}, "dtype": "uint8", "encodingFormat": "png"}}
    steps = {
        "observation": {"featuresDict": {"features": {"pixels": picture, "state": tensor("float32", 5)}}},
        "action": tensor("float32", 2),
        "reward": tensor("float32"),
        "is_first": tensor("bool"),
        "is_last": tensor("bool"),
        "is_terminal": tensor("bool"),
        "language_instruction": {"text": {}},
    }
    sequence = {"sequence": {"feature": {"featuresDict": {"features": steps}}, "length": "-1"}}
    return {"featuresDict": {"features": {"steps": sequence}}}


# ---------------------------------------------------------------------- pictures and videos


def write_table(file: Path, each: Known) -> None:
    rows = ["action.0,action.1,reward,terminated," + ",".join(f"state.{i}" for i in range(5))]
    for t, state in enumerate(each.obs["state"]):
        over = t == len(each.action)
        acted = ["", "", "", ""] if over else [*each.action[t], each.reward[t], int(each.terminated[t])]
        rows.append(",".join(map(str, [*acted, *state])))
    file.write_text("\n".join(rows) + "\n")


def write_pictures(folder: Path, known: Sequence[Known]) -> Path:
    for i, each in enumerate(known):
        (folder / f"take_{i}").mkdir()
        for t, frame in enumerate(each.obs["pixels"]):
            (folder / f"take_{i}" / f"{t}.png").write_bytes(png(frame))
        write_table(folder / f"take_{i}.csv", each)
    return folder


def write_video(folder: Path, known: Sequence[Known]) -> Path:
    """H.264, and a table beside each."""
    for i, each in enumerate(known):
        film(folder / f"take_{i}.mp4", len(each.action) + 1)
        write_table(folder / f"take_{i}.csv", each)
    return folder


def film(file: Path, frames: int) -> None:
    """Frame t is of the grey 20 t + 20."""
    import av

    with av.open(file, "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for t in range(frames):
            frame = np.full((32, 32, 3), 20 * t + 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def write_lerobot(folder: Path, known: Sequence[Known]) -> Path:
    """Version 2.1: a table and a video for each episode."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = {"dtype": "float32", "names": None}
    features = {
        "observation.state": {**number, "shape": [5]},
        "observation.images.pixels": {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"]},
        "action": {**number, "shape": [2]},
        "next.reward": {**number, "shape": [1]},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index")},
        "timestamp": {**number, "shape": [1]},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    about = {
        "codebase_version": "v2.1",
        "fps": 10,
        "features": features,
        "chunks_size": 1000,
        "total_episodes": len(known),
        "total_frames": sum(len(each.action) + 1 for each in known),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    for part in ("meta", "data/chunk-000", "videos/chunk-000/observation.images.pixels"):
        (folder / part).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(about))
    (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    lines, first = [], 0
    for i, each in enumerate(known):
        t = len(each.action)
        lines.append(json.dumps({"episode_index": i, "tasks": ["push"], "length": t + 1}))
        rows = {
            "observation.state": each.obs["state"].tolist(),
            "action": np.concatenate([each.action, np.zeros((1, 2), np.float32)]).tolist(),
            "next.reward": np.append(each.reward, np.float32(0)),
            "next.done": np.append(each.terminated, False),
            "frame_index": np.arange(t + 1),
            "episode_index": np.full(t + 1, i),
            "index": np.arange(first, first + t + 1),
            "timestamp": np.arange(t + 1, dtype=np.float32) / 10,
            "task_index": np.zeros(t + 1, np.int64),
        }
        first += t + 1
        pq.write_table(pa.table(rows), folder / f"data/chunk-000/episode_{i:06}.parquet")
        film(folder / f"videos/chunk-000/observation.images.pixels/episode_{i:06}.mp4", t + 1)
    (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


LOGS: dict[str, Log] = {
    "npz": Log("npz", write_npz, checked=".npz"),
    "ogbench": Log("npz", write_flat_npz, {"ends": "terminals"}, checked=".npz"),
    "zarr": Log("zarr", write_zarr, {"reward": "reward"}),
    "pusht": Log("pusht", write_pusht),
    "minari": Log("minari", write_minari),
    "d4rl": Log("hdf5", write_d4rl),
    "robomimic": Log("hdf5", write_robomimic),
    "swm": Log("hdf5", write_swm),
    "rlds": Log("rlds", write_rlds, checked=".tfrecord"),
    "pictures": Log("video", write_pictures, checked=".png"),
    "video": Log("video", write_video, exact=False),
    "lerobot": Log("lerobot", write_lerobot, exact=False),
}
