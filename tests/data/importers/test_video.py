"""Folders of videos and pictures: which files make an episode, and how a table of actions lies beside their frames."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from innerworld.data import import_log
from innerworld.data.importers.table import read_table
from innerworld.data.importers.video import VideoConfig
from innerworld.errors import UserError
from innerworld.types import Spec


def pictures(logs: ModuleType, folder: Path, name: str, count: int, value: int = 0) -> None:
    (folder / name).mkdir(parents=True)
    for t in range(count):
        (folder / name / f"f{t}.png").write_bytes(logs.png(np.full((8, 12, 3), value + t, np.uint8)))


def test_pictures_without_actions_in_natural_order(logs: ModuleType, tmp_path: Path) -> None:
    for i in (10, 9, 1):
        pictures(logs, tmp_path / "in", f"take{i}", 12, value=i)
    store, _ = import_log("video", tmp_path / "in", tmp_path / "out", VideoConfig(size=4, fps=5))
    assert store.spec == Spec({"pixels": (4, 4, 3)}, 0) and store.meta.about.fps == 5
    assert [store.episode(i).obs["pixels"][0, :, 0, 0, 0].tolist() for i in range(3)] == [
        [*range(1, 13)], [*range(9, 21)], [*range(10, 22)],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("rows", [3, 4])
def test_a_table_beside(logs: ModuleType, tmp_path: Path, kind: str, rows: int) -> None:
    pictures(logs, tmp_path / "in", "a", 4)
    action = np.array([[0.0, 1], [2, 3], [4, 5], [6, 7]])[:rows]
    if kind == "csv":
        lines = ["frame,action.0,action.1,reward", *(f"{i},{a[0]},{a[1]},{i}" for i, a in enumerate(action))]
        (tmp_path / "in" / "a.csv").write_text("\n".join(lines))
    elif kind == "npz":
        np.savez(tmp_path / "in" / "a.npz", action=action, reward=np.arange(rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"action": action.tolist(), "reward": np.arange(rows)}), tmp_path / "in" / "a.parquet")
    store, _ = import_log("video", tmp_path / "in", tmp_path / "out", VideoConfig(action_low=0, action_high=8))
    assert store.episode(0).action.tolist() == [[[-1, -0.75], [-0.5, -0.25], [0, 0.25]]]
    assert store.episode(0).reward.tolist() == [[0, 1, 2]]


def test_one_table_for_all(logs: ModuleType, tmp_path: Path) -> None:
    pictures(logs, tmp_path / "in", "a", 3)
    pictures(logs, tmp_path / "in", "b", 3)
    rows = [("b", 1, 4), ("a", 0, 1), ("b", 0, 3), ("a", 1, 2), ("a", 2, ""), ("b", 2, "")]
    (tmp_path / "in" / "t.csv").write_text("episode,frame,action\n" + "\n".join(",".join(map(str, r)) for r in rows))
    store, _ = import_log("video", tmp_path / "in", tmp_path / "out", VideoConfig(table="t.csv"))
    assert store.meta.about.action_high == (4,)
    assert [torch.round((store.episode(i).action[0, :, 0] + 1) * 1.5 + 1).tolist() for i in (0, 1)] == [[1, 2], [3, 4]]
    (tmp_path / "in" / "n.csv").write_text("episode,frame,action\n1,0,1\n1,1,1\n1,2,1\n0,0,1\n0,2,1\n")
    with pytest.raises(UserError, match="a: the table's frames of this episode are not 0, 1, 2"):
        import_log("video", tmp_path / "in", tmp_path / "o", VideoConfig(table="n.csv"))
    for table, told in (("../t.csv", "outside"), ("/etc/passwd", "outside"), ("none.csv", "cannot be read")):
        with pytest.raises(UserError, match=told):
            import_log("video", tmp_path / "in", tmp_path / "o", VideoConfig(table=table))
    (tmp_path / "in" / "x.csv").write_text("frame,action\n0,1\n")
    with pytest.raises(UserError, match=r"x\.csv has no column 'episode'"):
        import_log("video", tmp_path / "in", tmp_path / "o", VideoConfig(table="x.csv"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("action\n1\n2", "'action' has shape .2,. in the table, but there are 4 frames"),
        ("action,action\n1,1", "each once"),
        ("action,b\n1", "line 2 has 1 fields"),
        ("", "it is empty"),
        ("action\nleft\nright\nleft", "'action' is of type"),
        ("action\n1\nnan\n1", "action is not finite at time step 1"),
        ("action,pixels\n1,1\n1,1\n1,1\n1,1", "both a video and a column"),
        ("action\n\xff", None),
    ],
)
def test_a_bad_table_is_named(logs: ModuleType, tmp_path: Path, text: str, told: str | None) -> None:
    pictures(logs, tmp_path / "in", "a", 4)
    (tmp_path / "in" / "a.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=told or "cannot be read") as caught:
        import_log("video", tmp_path / "in", tmp_path / "out")
    assert str(caught.value).startswith("a: ")


def test_pictures_that_do_not_fit_together(logs: ModuleType, tmp_path: Path) -> None:
    pictures(logs, tmp_path / "in", "a", 3)
    pictures(logs, tmp_path / "in", "b", 1)
    with pytest.raises(UserError, match="b: it has 1 frames: at least 2"):
        import_log("video", tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a" / "f2.png").write_bytes(logs.png(np.zeros((9, 9, 3), np.uint8)))
    with pytest.raises(UserError, match="a: its pictures are of different sizes"):
        import_log("video", tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a" / "f2.png").write_bytes(logs.png(np.zeros((8, 12, 3), np.uint8))[:-30])
    with pytest.raises(UserError, match="a: a picture is truncated or corrupt"):
        import_log("video", tmp_path / "in", tmp_path / "out")


def test_a_flipped_bit_in_a_picture_is_noticed(logs: ModuleType, tmp_path: Path) -> None:
    pictures(logs, tmp_path / "in", "a", 2)
    raw = bytearray((tmp_path / "in" / "a" / "f1.png").read_bytes())
    raw[raw.index(b"IDAT") + 8] ^= 1
    (tmp_path / "in" / "a" / "f1.png").write_bytes(raw)
    with pytest.raises(UserError, match="a: a picture is truncated or corrupt"):
        import_log("video", tmp_path / "in", tmp_path / "out")


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(50) + b"PAR1")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read"):
        read_table(tmp_path / "a.parquet", 10**9)
    with pytest.raises(UserError, match="is no table"):
        read_table(tmp_path / "a.txt", 10**9)


def test_cameras_of_one_episode(logs: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from innerworld.data.video import VideoWriter

    for name, value in (("0.left", 10), ("0.right", 200), ("1.left", 20), ("1.right", 210)):
        (tmp_path / "in").mkdir(exist_ok=True)
        with VideoWriter(tmp_path / "in" / f"{name}.mp4", fps=10) as out:
            for _ in range(4):
                out.add(np.full((32, 48, 3), value, np.uint8))
    store, _ = import_log("video", tmp_path / "in", tmp_path / "out", VideoConfig(size=16))
    assert store.spec.obs == {"left": (16, 16, 3), "right": (16, 16, 3)} and store.meta.about.fps == 10
    seen = store.episode(1).obs
    assert abs(int(seen["left"][0, 2, 5, 5, 0]) - 20) < 4 and abs(int(seen["right"][0, 2, 5, 5, 0]) - 210) < 4
    (tmp_path / "in" / "1.right.mp4").unlink()
    store, skipped = import_log("video", tmp_path / "in", tmp_path / "o", VideoConfig(size=16), "skip")
    assert len(store) == 1 and skipped[0].startswith("1.left.mp4: ")
