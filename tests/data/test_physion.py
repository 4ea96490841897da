"""Physion in the layouts of its authors: films, labels and scenarios come over, damage is named or skipped."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerworld.data.physion import Shown, read_physion
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError

h5py = pytest.importorskip("h5py")


def write_film(file: Path, frames: int = 6) -> None:
    """Frame t is as bright as 40 t."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, 30) as writer:
        for t in range(frames):
            writer.add(np.full((32, 48, 3), 40 * t, np.uint8))


def write_trial(file: Path, touching: list[bool]) -> None:
    """A trial as ThreeDWorld writes it: an encoded picture and a flag for each frame."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as root:
        for t, touches in enumerate(touching):
            frame = root.create_group(f"frames/{t:04d}")
            raw = io.BytesIO()
            Image.fromarray(np.full((16, 16, 3), 10 * t, np.uint8)).save(raw, "PNG")
            frame.create_dataset("images/_img", data=np.frombuffer(raw.getvalue(), np.uint8))
            frame.create_dataset("labels/target_contacting_zone", data=touches)


def write_v15(folder: Path, told: dict[str, object]) -> Path:
    for name in told:
        write_film(folder / f"{name}.mp4")
    labels = {name: {"label": label, "contact_frame_label": 3} for name, label in told.items()}
    (folder / "all_video_labels.json").write_text(json.dumps(labels))
    return folder


NAMES = {
    "pilot_it2_collision_simple_box_0001": True,
    "pilot_it2_rollingSliding_simple_collision_box_0002": 0,
    "pilot_towers_nb2_fr015_SJ010_tdwroom_0003": 1.0,
    "pilot_linking_nl1-5_aNone_0004": False,
}


def test_videos_beside_their_labels_come_over(tmp_path: Path) -> None:
    found = read_physion(write_v15(tmp_path / "train", NAMES))
    assert [item.scenario for item in found.items] == ["collide", "roll", "link", "support"]
    assert found.labels().tolist() == [1, 0, 0, 1] and found.unlabelled == 0
    shown = Shown(last=4, last_collide=2, gap=2)
    light = [found.film(i, 16, shown).mean((1, 2, 3)) for i in range(4)]
    np.testing.assert_allclose(light[0], [0, 0, 80], atol=3)  # things collide early: the first frame fills up
    np.testing.assert_allclose(light[2], [0, 80, 160], atol=3)
    assert found.film(1, 16, shown).shape == (3, 16, 16, 3)


def test_the_published_frames_are_seen() -> None:
    shown = Shown()
    assert shown.numbers("roll", 200) == [0, 15, 30, 45] and shown.numbers("collide", 200) == [0, 0, 0, 15]
    assert shown.numbers("drop", 20) == [0, 15, 19, 19]  # a film that is over stands still
    assert Shown(gap=10).numbers("drop", 200) == [5, 15, 25, 35, 45]
    with pytest.raises(UserError, match="gap at least 1"):
        Shown(gap=0)


def test_trials_tell_their_labels_themselves(tmp_path: Path) -> None:
    write_trial(tmp_path / "Drop_readout" / "pilot_it2_drop_simple_box" / "0007.hdf5", [False, True, False])
    write_trial(tmp_path / "Drape_readout" / "test19_0019.hdf5", [False, False, False])
    found = read_physion(tmp_path)
    assert [item.name for item in found.items] == ["test19_0019", "pilot_it2_drop_simple_box_0007"]
    assert [item.scenario for item in found.items] == ["drape", "drop"] and found.labels().tolist() == [0, 1]
    light = found.film(1, 8, Shown(2, 2, 1))
    assert light.shape == (3, 8, 8, 3) and light[:, 0, 0, 0].tolist() == [0, 10, 20]


@pytest.mark.parametrize("table", ["stimulus_names_and_labels.csv", "readout_labels.csv"])
def test_the_core_test_set_takes_its_labels_from_a_table(tmp_path: Path, table: str) -> None:
    """Films of one colour each for people are left aside; the table may know more films than there are."""
    for kind, name in (("dominoes", "pilot_dominoes_1mid_boxroom-redyellow_0013"), ("drape", "test10_0001")):
        for copy in ("mp4s", "mp4s-redyellow"):
            write_film(tmp_path / "Physion" / kind / copy / f"{name}_img.mp4")
    told = [("pilot_dominoes_1mid_boxroom_0013", "True"), ("test10_0001", "False"), ("pilot_it2_drop_x_0001", "True")]
    if table.startswith("stimulus"):
        text = "stim_ID,scenario,stim_url,correct,label\n" + "".join(f"{n},x,u,0.5,{y}\n" for n, y in told)
    else:
        text = ",ground truth outcome\n" + "".join(f"{n},{y}\n" for n, y in told)
    (tmp_path / table).write_text(text)
    found = read_physion(tmp_path / "Physion", tmp_path / table)
    assert [(item.scenario, item.touched) for item in found.items] == [("dominoes", True), ("drape", False)]
    (tmp_path / "faulty.txt").write_text("test10_0001\n")
    without = read_physion(tmp_path / "Physion", tmp_path / table, tmp_path / "faulty.txt")
    assert len(without) == 1 and without.left_out == 1


def test_what_is_wrong_is_named_or_skipped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        read_physion(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no films of Physion"):
        read_physion(tmp_path)
    folder = write_v15(tmp_path / "test", NAMES)
    write_film(folder / "pilot_it2_drop_new_0009.mp4")
    with pytest.raises(UserError, match=r"drop_new_0009\.mp4 has no label"):
        read_physion(folder)
    assert read_physion(folder, broken="skip").unlabelled == 1
    (folder / "pilot_it2_drop_new_0009.mp4").unlink()
    write_film(folder / "something.mp4")
    with pytest.raises(UserError, match=r"something\.mp4 belongs to none of the scenarios"):
        read_physion(folder)
    (folder / "something.mp4").unlink()
    labels = folder / "all_video_labels.json"
    for text, told in (
        ("[]", "not an object"),
        ('{"x": {}}', "'x' has no label"),
        ('{"x": {"label": "perhaps"}}', "'perhaps' is neither true nor false"),
        ("{", "not JSON"),
        ("{}", "has no label"),
    ):
        labels.write_text(text)
        with pytest.raises(UserError, match=told):
            read_physion(folder)
    with pytest.raises(UserError, match=r"of 4 films in .* none has a label"):
        read_physion(folder, broken="skip")
    labels.unlink()
    with pytest.raises(UserError, match="give the table"):
        read_physion(folder)
    (tmp_path / "table.csv").write_text("film,answer\nx,True\n")
    with pytest.raises(UserError, match="expected the columns stim_ID and label"):
        read_physion(folder, tmp_path / "table.csv")


def test_a_broken_film_is_named_when_it_is_read(tmp_path: Path) -> None:
    folder = write_v15(tmp_path, NAMES)
    broken = folder / "pilot_linking_nl1-5_aNone_0004.mp4"
    broken.write_bytes(b"nothing")
    found = read_physion(folder)
    with pytest.raises(UserError, match=r"aNone_0004\.mp4"):
        found.film(2, 16)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("frames", "no trial of Physion"),
        ("frames/0001/labels", "does not tell labels/target_contacting_zone"),
        ("frames/0001/images/_img", "has no images/_img"),
    ],
)
def test_a_damaged_trial_is_named(tmp_path: Path, spoil: str, told: str) -> None:
    file = tmp_path / "pilot_it2_drop_simple_box_0001.hdf5"
    write_trial(file, [False, False])
    with h5py.File(file, "r+") as root:
        del root[spoil]
    with pytest.raises(UserError, match=told):
        read_physion(tmp_path).film(0, 8, Shown(1, 1, 1))
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"simple_box_0001\.hdf5"):
        read_physion(tmp_path)
