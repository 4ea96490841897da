"""Trackers: real TensorBoard files read back, resumed runs without a step twice, and failures that stop nothing."""

from __future__ import annotations

import json
import logging
import math
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from innerworld.errors import UserError
from innerworld.log import Row, tracker

module = sys.modules["innerworld.log.tracker"]  # beside which the package has a function of that name

CONFIG = {"family": "jepa", "train": {"steps": 4}}


class Fake:
    """Remembers what it is given; fails where it is told to."""

    opened: list[Fake] = []  # noqa: RUF012

    def __init__(self, folder: Path, config: Mapping[str, Any], id: str, first: int) -> None:
        self.config, self.id, self.first = config, id, first
        self.rows: list[tuple[int, Row]] = []
        self.closed = False
        self.opened.append(self)

    def add(self, step: int, row: Row) -> None:
        self.rows.append((step, row))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    monkeypatch.setattr(Fake, "opened", [])
    monkeypatch.setitem(module.TRACKERS, "fake", Fake)
    monkeypatch.setitem(module.NEEDS, "fake", ())
    return Fake.opened


def test_rows_arrive_with_the_configuration(tmp_path: Path, fakes: list[Fake]) -> None:
    with tracker(["fake"], tmp_path, CONFIG) as log:
        assert not fakes  # opened at the first row
        log(0, {})
        log(0, {"loss": 1.0})
        log(1, {"loss": 0.5})
    assert fakes[0].rows == [(0, {"loss": 1.0}), (1, {"loss": 0.5})]
    assert fakes[0].config == CONFIG and fakes[0].closed


def test_a_resumed_run_goes_on_in_the_same_one_and_repeats_no_step(tmp_path: Path, fakes: list[Fake]) -> None:
    with tracker(["fake"], tmp_path, CONFIG) as log:
        for step in range(5):
            log(step, {"loss": 1.0})
    with tracker(["fake"], tmp_path, CONFIG) as log:  # killed after step 4, the last checkpoint was that of step 3
        for step in range(3, 7):
            log(step, {"loss": 1.0})
    assert fakes[0].id == fakes[1].id and fakes[1].first == 3
    assert [step for fake in fakes for step, _ in fake.rows] == list(range(7))


def test_a_new_run_in_the_same_folder_is_a_new_one(tmp_path: Path, fakes: list[Fake]) -> None:
    for _ in range(2):
        with tracker(["fake"], tmp_path, CONFIG) as log:
            log(0, {"loss": 1.0})
    assert fakes[0].id != fakes[1].id
    assert [fake.rows for fake in fakes] == [[(0, {"loss": 1.0})]] * 2


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"id": 3}'])
def test_a_damaged_note_begins_anew(tmp_path: Path, fakes: list[Fake], noted: str) -> None:
    (tmp_path / "track-fake.json").write_text(noted)
    with tracker(["fake"], tmp_path, CONFIG) as log:
        log(7, {"loss": 1.0})
    assert fakes[0].rows == [(7, {"loss": 1.0})]


@pytest.mark.parametrize("at", ["__init__", "add", "close"])
def test_a_tracker_that_fails_is_warned_of_once_and_dropped(
    tmp_path: Path, fakes: list[Fake], at: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any) -> None:
        raise OSError(28, "No space\nleft on device")

    monkeypatch.setattr(Fake, at, fail)
    seen = []
    with caplog.at_level(logging.WARNING), tracker(["fake"], tmp_path, CONFIG) as log:
        for step in range(3):
            log(step, {"loss": 1.0})
            seen.append(step)
    assert seen == [0, 1, 2]
    assert [record.message for record in caplog.records] == [
        "tracker fake failed (OSError: [Errno 28] No space left on device): training goes on without it"
    ]


def test_one_that_fails_does_not_take_the_other_along(
    tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Any:
        raise ConnectionError("network is unreachable")

    monkeypatch.setitem(module.TRACKERS, "broken", broken)
    monkeypatch.setitem(module.NEEDS, "broken", ())
    with tracker(["broken", "fake"], tmp_path, CONFIG) as log:
        log(0, {"loss": 1.0})
    assert fakes[0].rows == [(0, {"loss": 1.0})]


def test_the_users_own_exception_passes(tmp_path: Path, fakes: list[Fake]) -> None:
    with pytest.raises(ZeroDivisionError), tracker(["fake"], tmp_path, CONFIG) as log:
        log(0, {"loss": 1.0})
        raise ZeroDivisionError
    assert fakes[0].closed


def test_names_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Did you mean 'tensorboard'"), tracker(["tensorbord"], tmp_path, {}):
        pass
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    missing = r'wandb needs .*: pip install "innerworld\[track\]"'
    with pytest.raises(UserError, match=missing), tracker(["wandb"], tmp_path, {}):
        pass


# ---------------------------------------------------------------------- the real ones


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    with tracker(["tensorboard"], tmp_path, CONFIG) as log:
        for step in range(4):
            log(step, {"loss": 1.0 / (step + 1), "lr": math.nan if step == 2 else 0.1})
    scalars, text = _events(tmp_path)
    assert scalars["loss"] == [(step, pytest.approx(1.0 / (step + 1))) for step in range(4)]
    assert [step for step, _ in scalars["lr"]] == [0, 1, 2, 3]
    assert '"family": "jepa"' in text


def test_tensorboard_of_a_resumed_run_shows_each_step_once(tmp_path: Path) -> None:
    for run, steps in enumerate((range(5), range(3, 8))):
        with tracker(["tensorboard"], tmp_path, CONFIG) as log:
            for step in steps:
                log(step, {"loss": float(run)})
    scalars, _ = _events(tmp_path)
    assert scalars["loss"] == [(step, 0.0) for step in range(3)] + [(step, 1.0) for step in range(3, 8)]


def _events(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], str]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    text = events.Tensors(tags["tensors"][0])[0].tensor_proto.string_val[0].decode()
    return scalars, text


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for steps in (range(3), range(2, 5)):
        with tracker(["wandb"], tmp_path, CONFIG) as log:
            for step in steps:
                log(step, {"loss": 1.0})
    noted = json.loads((tmp_path / "track-wandb.json").read_text())
    files = list((tmp_path / "wandb").glob(f"offline-run-*/run-{noted['id']}.wandb"))
    assert noted["step"] == 4 and len(files) == 2  # one id, so that both are one run when synced


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio_client")
    pytest.importorskip("trackio")
    with tracker(["trackio"], tmp_path, CONFIG) as log:
        log(0, {"loss": 1.0})
    assert json.loads((tmp_path / "track-trackio.json").read_text())["step"] == 0


def test_tensorboard_opens_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **more: Any) -> Any:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with tracker(["tensorboard"], tmp_path, CONFIG) as log:
        log(0, {"loss": 1.0})
    assert list((tmp_path / "tensorboard").iterdir())
