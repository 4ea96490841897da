from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from innerworld.data.labelled import read_epic, read_kinetics, read_ssv2
from innerworld.data.video import VideoWriter
from innerworld.errors import UserError


def film(path, values, fps=10.0):
    """A video whose frame i is grey of that value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps) as writer:
        for value in values:
            writer.add(np.full((32, 32, 3), value, np.uint8))


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def ssv2(tmp_path, template="Holding [something] next to [something]"):
    (tmp_path / "labels.json").write_text(
        json.dumps({"Holding something next to something": "1", "Pushing something": "0"})
    )
    entries = [{"id": "78", "template": template}, {"id": "79", "template": "Pushing [something]"}]
    (tmp_path / "train.json").write_text(json.dumps(entries))
    film(tmp_path / "videos" / "78.mp4", range(0, 200, 10))
    return tmp_path / "train.json", tmp_path / "labels.json", tmp_path / "videos"


def test_something_something(tmp_path):
    found = read_ssv2(*ssv2(tmp_path))
    assert len(found) == 1 and found.missing == 1
    assert found.names == ("Pushing something", "Holding something next to something")
    assert found.items[0].label == 1
    films = found.films([0], frames=4)
    assert films.shape == (1, 4, 32, 32, 3)
    assert np.abs(films[0].mean((1, 2, 3)) - [20, 70, 120, 170]).max() < 4  # the middle of each quarter


def test_something_something_that_is_not(tmp_path):
    with pytest.raises(UserError, match=r"entry 0.*'Waving something'"):
        read_ssv2(*ssv2(tmp_path, template="Waving [something]"))
    (tmp_path / "train.json").write_text("[{}]")
    with pytest.raises(UserError, match="entry 0 has no 'template'"):
        read_ssv2(tmp_path / "train.json", tmp_path / "labels.json", tmp_path)
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_ssv2(tmp_path / "train.json", tmp_path / "labels.json", tmp_path)


def test_kinetics_flat_and_in_folders(tmp_path):
    rows = [
        {"label": "riding a bike", "youtube_id": "aB-_1", "time_start": "5", "time_end": "15", "split": "train"},
        {"label": "abseiling", "youtube_id": "x2", "time_start": "0", "time_end": "10", "split": "train"},
        {"label": "abseiling", "youtube_id": "../x2", "time_start": "0", "time_end": "10", "split": "train"},
    ]
    table(tmp_path / "train.csv", rows)
    film(tmp_path / "v" / "riding a bike" / "aB-_1_000005_000015.mp4", range(10))
    film(tmp_path / "v" / "x2_000000_000010.mp4", range(10))
    found = read_kinetics(tmp_path / "train.csv", tmp_path / "v")
    assert found.names == ("abseiling", "riding a bike") and found.missing == 1
    assert [item.label for item in found.items] == [1, 0]


def test_epic_kitchens_cuts_the_stretch(tmp_path):
    row = {"participant_id": "P01", "video_id": "P01_01", "verb_class": "3", "noun_class": "7", "narration": "x"}
    rows = [
        {**row, "start_timestamp": "00:00:01.00", "stop_timestamp": "00:00:02.00"},
        {**row, "start_timestamp": "00:00:00.00", "stop_timestamp": "00:00:00.50", "noun_class": "2"},
    ]
    table(tmp_path / "EPIC_100_train.csv", rows)
    film(tmp_path / "P01" / "videos" / "P01_01.mp4", range(0, 240, 8))
    found = read_epic(tmp_path / "EPIC_100_train.csv", tmp_path, "action")
    assert found.names == ("3 2", "3 7") and [item.label for item in found.items] == [1, 0]
    films = found.films([0], frames=5)
    assert np.abs(films[0].mean((1, 2, 3)) - [88, 104, 120, 136, 152]).max() < 4
    assert [item.label for item in read_epic(tmp_path / "EPIC_100_train.csv", tmp_path).items] == [0, 0]


def test_tables_that_are_damaged_name_the_row(tmp_path):
    table(tmp_path / "a.csv", [{"label": "x", "youtube_id": "y"}])
    with pytest.raises(UserError, match="no column 'time_start'"):
        read_kinetics(tmp_path / "a.csv", tmp_path)
    table(tmp_path / "a.csv", [{"label": "x", "youtube_id": "y", "time_start": "now", "time_end": "1"}])
    with pytest.raises(UserError, match="row 1: time_start: 'now' is not a number"):
        read_kinetics(tmp_path / "a.csv", tmp_path)
    table(tmp_path / "a.csv", [{"label": "x", "youtube_id": "y", "time_start": "0", "time_end": "1"}])
    with pytest.raises(UserError, match="none of the 1 videos"):
        read_kinetics(tmp_path / "a.csv", tmp_path)
