"""LeRobot datasets: what is read is what was recorded, and nothing of another episode, whatever the metadata say."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerworld.data.importers.bring import bring_in
from innerworld.data.importers.lerobot import LeRobotConfig, looks_like_lerobot, open_lerobot
from innerworld.data.importers.recording import Take
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av")

FPS = 10
LENGTHS = (7, 5, 9)
CAMERA = "observation.images.front"
ROW = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def frame(episode: int, row: int) -> np.ndarray:
    """A grey that tells episode and row."""
    return np.full((16, 24, 3), 20 + 60 * episode + 5 * row, np.uint8)


def rows(episode: int, length: int, tasks: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(episode)
    return {
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32).tolist(),
        "action": rng.uniform(-2, 5, (length, 2)).astype(np.float32).tolist(),
        "timestamp": (np.arange(length) / FPS).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": sum(LENGTHS[:episode]) + np.arange(length),
        "task_index": np.full(length, episode % tasks),
    }


def info(version: str, data: str, video: str) -> dict[str, Any]:
    return {
        "codebase_version": version,
        "robot_type": "toybot",
        "chunks_size": 1000,
        "fps": FPS,
        "data_path": data,
        "video_path": video,
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
            "action": {"dtype": "float32", "shape": [2], "names": None},
            CAMERA: {"dtype": "video", "shape": [16, 24, 3], "names": ["height", "width", "channel"]},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ROW},
        },
    }


def film(path: Path, frames: Sequence[np.ndarray], fps: float = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps, "lossless", gop=4) as writer:
        for each in frames:
            writer.add(each)


def save(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def v21(tmp_path: Path) -> Path:
    """One file per episode."""
    root = tmp_path / "v21"
    (root / "meta").mkdir(parents=True)
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    (root / "meta/info.json").write_text(json.dumps(info("v2.1", data, video)))
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "push"}\n')
    lines, stats = [], []
    for e, length in enumerate(LENGTHS):
        save(root / f"data/chunk-000/episode_{e:06d}.parquet", rows(e, length))
        film(root / f"videos/chunk-000/{CAMERA}/episode_{e:06d}.mp4", [frame(e, r) for r in range(length)])
        lines.append({"episode_index": e, "tasks": ["push"], "length": length})
        action = np.array(rows(e, length)["action"])
        stats.append({"episode_index": e, "stats": {"action": {"min": action.min(0).tolist(), "max": [5.5, 5.5]}}})
    for name, values in (("episodes", lines), ("episodes_stats", stats)):
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return root


@pytest.fixture
def v3(tmp_path: Path) -> Path:
    """All episodes in one table and one video, as lerobot itself writes them; two tasks."""
    root = tmp_path / "v3"
    (root / "meta").mkdir(parents=True)
    where = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    (root / "meta/info.json").write_text(
        json.dumps(info("v3.0", f"data/{where}.parquet", "videos/{video_key}/" + where + ".mp4"))
    )
    save(root / "meta/tasks.parquet", {"task_index": [0, 1], "__index_level_0__": ["push", "pull"]})
    tables = [pa.table(rows(e, length, tasks=2)) for e, length in enumerate(LENGTHS)]
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
    film(
        root / f"videos/{CAMERA}/chunk-000/file-000.mp4", [frame(e, r) for e, n in enumerate(LENGTHS) for r in range(n)]
    )
    save(root / "meta/episodes/chunk-000/file-000.parquet", episode_rows())
    return root


def episode_rows() -> dict[str, Any]:
    starts = np.cumsum([0, *LENGTHS[:-1]])
    return {
        "episode_index": np.arange(3),
        "length": np.array(LENGTHS),
        "data/chunk_index": np.zeros(3, int),
        "data/file_index": np.zeros(3, int),
        f"videos/{CAMERA}/chunk_index": np.zeros(3, int),
        f"videos/{CAMERA}/file_index": np.zeros(3, int),
        f"videos/{CAMERA}/from_timestamp": starts / FPS,
        f"videos/{CAMERA}/to_timestamp": (starts + LENGTHS) / FPS,
    }


def takes(root: Path, **how: Any) -> list[Take]:
    return [episode.read() for episode in open_lerobot(root, LeRobotConfig(**how)).episodes]


@pytest.mark.parametrize("version", ["v21", "v3"])
def test_both_versions_give_what_was_recorded(version: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(version)
    assert looks_like_lerobot(root)
    recording = open_lerobot(root, LeRobotConfig())
    assert recording.about.fps == FPS and recording.about.env == "toybot"
    assert recording.about.more["tasks"] == (["push"] if version == "v21" else ["push", "pull"])
    for e, (length, episode) in enumerate(zip(LENGTHS, recording.episodes, strict=True)):
        take = episode.read()
        assert np.array_equal(take.obs["front"], np.stack([frame(e, r) for r in range(length)]))
        assert np.allclose(take.obs["state"], rows(e, length)["observation.state"])
        assert take.action is not None and np.allclose(take.action, rows(e, length)["action"][:-1])
        if version == "v3":
            assert np.array_equal(take.obs["task"], np.full((length, 1), e % 2))
        else:
            assert set(take.obs) == {"front", "state"}


def test_bounds_come_from_the_statistics_or_are_measured(v21: Path, v3: Path) -> None:
    actions = np.concatenate([rows(e, n)["action"] for e, n in enumerate(LENGTHS)])
    stated, measured = (open_lerobot(root, LeRobotConfig()).bounds for root in (v21, v3))
    assert stated is not None and measured is not None
    assert np.allclose(stated()[0], actions.min(0)) and np.allclose(stated()[1], 5.5)
    assert np.allclose(measured(), [actions.min(0), actions.max(0)])


def test_into_a_store(v3: Path, tmp_path: Path) -> None:
    config = LeRobotConfig(size=8, sensors=("front",))
    store, skipped = bring_in(open_lerobot(v3, config), tmp_path / "store", config)
    assert not skipped and store.lengths.tolist() == [n - 1 for n in LENGTHS]
    assert store.spec.obs == {"front": (8, 8, 3)}
    assert store.episode(2).obs["front"][0, 3, 0, 0, 0] == frame(2, 3)[0, 0, 0]


def test_a_video_at_half_the_rate_joins_the_actions(v21: Path) -> None:
    for e, length in enumerate(LENGTHS):
        film(v21 / f"small/{e:06d}.mp4", [frame(e, r) for r in range(0, length, 2)], FPS / 2)
    template = "small/{episode_index:06d}.mp4"
    with pytest.raises(UserError, match="5 frames a second, the table 10 rows: rows_per_frame=2"):
        takes(v21, video_path=template)
    recording = open_lerobot(v21, LeRobotConfig(video_path=template, rows_per_frame=2))
    take = recording.episodes[0].read()
    action = np.array(rows(0, 7)["action"])
    assert recording.about.fps == FPS / 2 and take.action is not None
    assert np.array_equal(take.obs["front"], np.stack([frame(0, r) for r in (0, 2, 4, 6)]))
    assert np.allclose(take.action, action[:6].reshape(3, 4))
    summed = takes(v21, video_path=template, rows_per_frame=2, actions="sum")[0].action
    assert summed is not None and np.allclose(summed, action[:6].reshape(3, 2, 2).sum(1))
    assert recording.bounds is not None and len(recording.bounds()[0]) == 4


def test_pictures_in_the_table(v21: Path) -> None:
    from PIL import Image

    def png(picture: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        return file.getvalue()

    edit_info(v21, lambda values: values["features"][CAMERA].update(dtype="image"))
    for e, length in enumerate(LENGTHS):
        cells = [{"bytes": png(frame(e, r)), "path": f"frame-{r}.png"} for r in range(length)]
        save(v21 / f"data/chunk-000/episode_{e:06d}.parquet", {**rows(e, length), CAMERA: cells})
    assert np.array_equal(takes(v21)[1].obs["front"], np.stack([frame(1, r) for r in range(5)]))
    small = rows(0, 7) | {CAMERA: [{"bytes": png(frame(0, 0)[:8]), "path": None}] * 7}
    save(v21 / "data/chunk-000/episode_000000.parquet", small)
    with pytest.raises(UserError, match="not all 24 x 16"):
        takes(v21)


def test_without_actions_it_is_video_only(v21: Path) -> None:
    recording = open_lerobot(v21, LeRobotConfig(action="none"))
    assert recording.bounds is None and recording.episodes[0].read().action is None


def test_rewards_and_ends(v21: Path) -> None:
    edit_info(v21, lambda values: values["features"].update({n: {"dtype": "float32", "shape": [1]} for n in NEXT}))
    for e, length in enumerate(LENGTHS):
        more = {"next.reward": np.arange(length, dtype=np.float32), "next.done": np.arange(length) == length - 2}
        save(v21 / f"data/chunk-000/episode_{e:06d}.parquet", {**rows(e, length), **more})
    take = takes(v21)[0]
    assert take.reward is not None and take.reward.tolist() == [0, 1, 2, 3, 4, 5]
    assert take.terminated is not None and take.terminated.tolist() == [False] * 5 + [True]


NEXT = ("next.reward", "next.done")


def test_a_missing_file_is_one_bad_episode(v21: Path, tmp_path: Path) -> None:
    (v21 / "data/chunk-000/episode_000000.parquet").unlink()
    (v21 / f"videos/chunk-000/{CAMERA}/episode_000002.mp4").unlink()
    config = LeRobotConfig()
    with pytest.raises(UserError, match=r"episode 0 .*episode_000000\.parquet is missing"):
        bring_in(open_lerobot(v21, config), tmp_path / "stopped", config)
    store, skipped = bring_in(open_lerobot(v21, config), tmp_path / "store", config, on_bad="skip")
    assert store.lengths.tolist() == [4] and len(skipped) == 2
    assert "v21 episode 2" in skipped[1] and "there is no video" in skipped[1]
    assert len(open_lerobot(v21, LeRobotConfig(episodes=(1,))).episodes) == 1
    with pytest.raises(UserError, match="no episode 7"):
        open_lerobot(v21, LeRobotConfig(episodes=(7,)))


def edit_info(root: Path, change: Any) -> None:
    values = json.loads((root / "meta/info.json").read_text())
    change(values)
    (root / "meta/info.json").write_text(json.dumps(values))


@pytest.mark.parametrize("path", ["../{episode_index}.mp4", "/etc/{episode_index}.mp4", "{video_key}/../../x.mp4"])
def test_a_path_that_leaves_the_dataset_is_refused(v21: Path, path: str) -> None:
    edit_info(v21, lambda values: values.update(video_path=path))
    with pytest.raises(UserError, match="outside of it"):
        takes(v21)


@pytest.mark.parametrize("path", ["{episode_index.__class__}.mp4", "{home}/x.mp4", "{episode_index!r}.mp4", "{0}.mp4"])
def test_a_template_asks_for_known_numbers_only(v21: Path, path: str) -> None:
    edit_info(v21, lambda values: values.update(video_path=path))
    with pytest.raises(UserError, match="the path"):
        takes(v21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(codebase_version="v1.6"), "version 1.6"),
        (lambda values: values.update(fps=0), "fps is 0"),
        (lambda values: values.update(fps="30"), "fps is '30'"),
        (lambda values: values.update(features={}), "no features"),
        (lambda values: values["features"]["action"].update(shape="2"), "'action' has no shape"),
        (lambda values: values.pop("data_path"), "no data_path"),
        (lambda values: values.update(chunks_size=0), "chunks_size is 0"),
        (lambda values: values["features"]["action"].update(shape=[3]), r"action has shape \(2,\), info.json says"),
    ],
)
def test_wrong_metadata(v21: Path, change: Any, message: str) -> None:
    edit_info(v21, change)
    with pytest.raises(UserError, match=message):
        takes(v21)


@pytest.mark.parametrize("file", ["info.json", "episodes.jsonl", "tasks.jsonl"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"a"', b"\xff\xfe", b'{"episode_index": "0"}'])
def test_damaged_metadata(v21: Path, file: str, content: bytes) -> None:
    (v21 / "meta" / file).write_bytes(content)
    if content == b"" and file != "info.json":
        return  # no episodes, no tasks
    with pytest.raises(UserError, match=r"meta/|fps|version"):
        open_lerobot(v21, LeRobotConfig())


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("timestamp", lambda t: t * 1.2, "expected 0.2 s|expected 0.3 s|expected 0.4 s"),
        ("timestamp", lambda t: np.where(t > 0.3, np.nan, t), "is at nan s"),
        ("timestamp", lambda t: t[[0, 1, 3, 2, 4, 5, 6]], r"row 2 of episode 0 is at 0\.3 s, expected 0\.2 s"),
        ("frame_index", lambda i: i + (i > 3), "frame_index 5"),
        ("frame_index", lambda i: i[::-1], "frame_index 6"),
        ("episode_index", lambda e: np.where(np.arange(len(e)) > 4, 1, e), "has 5 rows of episode 0, not 7"),
        ("action", lambda a: [[1.0, 2.0]] * 6 + [[1.0]], "1 to 2 numbers a row"),
        ("action", lambda a: [[1.0, 2.0]] * 6 + [None], "no value in some rows"),
        ("action", lambda a: ["x"] * 7, "expected numbers"),
        ("observation.state", lambda a: [[1.0]] * 7, r"has shape \(1,\)"),
    ],
)
def test_wrong_rows(v21: Path, column: str, change: Any, message: str) -> None:
    table = rows(0, 7)
    table[column] = change(table[column])
    save(v21 / "data/chunk-000/episode_000000.parquet", table)
    with pytest.raises(UserError, match=message):
        takes(v21)


def test_a_missing_column_and_a_cut_table(v21: Path) -> None:
    file = v21 / "data/chunk-000/episode_000000.parquet"
    table = rows(0, 7)
    del table["action"]
    save(file, table)
    with pytest.raises(UserError, match=r"episode_000000\.parquet has no column 'action'"):
        takes(v21)
    save(file, rows(0, 7))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"episode_000000\.parquet cannot be read"):
        takes(v21)


def test_a_video_with_too_few_or_too_many_frames(v21: Path) -> None:
    for count in (6, 8):
        film(v21 / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", [frame(0, r) for r in range(count)])
        with pytest.raises(UserError, match=f"has {count} frames for 7 rows of episode 0"):
            takes(v21)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("from_timestamp", [0.0, 0.5, 1.2], "overlaps that of episode"),  # episode 1 would begin with 0's frames
        ("from_timestamp", [0.2, 0.7, 1.2], "is said to last"),
        ("to_timestamp", [0.7, 1.2, 2.4], "lasts 2.1 s, its episodes 2.4 s"),
        ("to_timestamp", [0.7, 1.2, np.nan], "expected seconds"),
        ("file_index", [0, 0, 1], "there is no video"),
        ("file_index", [0, 0, -1], "expected a whole number"),
    ],
)
def test_never_frames_of_another_episode(v3: Path, column: str, values: list, message: str) -> None:
    table = episode_rows()
    table[f"videos/{CAMERA}/{column}"] = np.array(values)
    save(v3 / "meta/episodes/chunk-000/file-000.parquet", table)
    with pytest.raises(UserError, match=message):
        takes(v3)


def test_an_index_gap_that_moved_all_videos_is_found(v3: Path) -> None:
    """Episode 1 was lost from the video but not from the sums: what follows would get frames that are not its own."""
    short = [frame(e, r) for e, n in enumerate(LENGTHS) for r in range(n) if e != 1]
    film(v3 / f"videos/{CAMERA}/chunk-000/file-000.mp4", short)
    for episode in open_lerobot(v3, LeRobotConfig()).episodes:
        with pytest.raises(UserError, match=r"lasts 1\.6 s, its episodes 2.1 s"):
            episode.read()


def test_a_row_of_metadata_that_is_missing_gives_no_other_episodes_frames(v3: Path, tmp_path: Path) -> None:
    whole = takes(v3)
    table = {name: np.delete(value, 1) for name, value in episode_rows().items()}
    save(v3 / "meta/episodes/chunk-000/file-000.parquet", table)
    config = LeRobotConfig()
    with pytest.raises(UserError, match=r"v3 episode 1 \(meta\): .*nothing is said of episode 1"):
        bring_in(open_lerobot(v3, config), tmp_path / "stopped", config)
    store, skipped = bring_in(open_lerobot(v3, config), tmp_path / "store", config, on_bad="skip")
    assert len(store) == 2 and len(skipped) == 1
    for i, e in enumerate((0, 2)):
        assert (store.episode(i).obs["front"][0].numpy() == whole[e].obs["front"]).all()
    edit_info(v3, lambda values: values.update(total_episodes=5))
    with pytest.raises(UserError, match="nothing is said of the episodes 3 to 4"):
        open_lerobot(v3, config).episodes[-1].read()
    edit_info(v3, lambda values: values.update(total_episodes=2))  # who counts so left it out on purpose
    assert len(open_lerobot(v3, config).episodes) == 2


def test_an_episode_named_twice(v3: Path) -> None:
    save(v3 / "meta/episodes/chunk-000/file-001.parquet", episode_rows())
    with pytest.raises(UserError, match=r"names it twice|name it twice|overlaps"):
        takes(v3)


def test_unknown_sensors(v21: Path) -> None:
    with pytest.raises(UserError, match=r"no sensor 'fron'\. Did you mean 'front'"):
        open_lerobot(v21, LeRobotConfig(sensors=("fron",)))
    with pytest.raises(UserError, match="is no LeRobot dataset"):
        open_lerobot(v21 / "data", LeRobotConfig())
