"""What a run leaves in its folder: checkpoints written meanwhile, the best of them, a lock, and how the run stands."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint
from innerworld.checkpoint import pieces
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec

SPEC = Spec({"state": (4,)}, action=2)
MODEL = JEPAConfig(latent=4, hidden=8, slices=8, predictor="transformer", heads=2, head_dim=4, dropout=0.1)
CONFIG = TrainConfig(steps=12, lr=1e-2, save_every=3, log_every=1, device="cpu", ema=0.9)


@dataclass
class Noise:
    """Random clips; `then` is called when those of step `when` are asked for."""

    when: int = -1
    then: Callable[[], object] = lambda: None

    def batch(self, step: int) -> Clip:
        if step == self.when:
            self.then()
        rng = torch.Generator().manual_seed(step)
        state, action = torch.randn(4, 3, 4, generator=rng), torch.rand(4, 2, 2, generator=rng)
        return Clip({"state": state}, action, torch.zeros(4, 2), torch.zeros(4, 2).bool())


def build() -> JEPA:
    torch.manual_seed(1)
    return JEPA(MODEL, SPEC)


def learn(folder: Path | None, clips: Noise | None = None, resume: bool = False, **change: Any) -> JEPA:
    model = build()
    train(model, clips or Noise(), CONFIG.model_copy(update=change), folder, resume=resume)
    return model


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


refused: list[object] = []  # of a full disk, each write


def full(*args: object) -> None:
    refused.append(args)
    raise OSError(errno.ENOSPC, "No space left on device")


def test_writing_meanwhile_changes_nothing(tmp_path: Path) -> None:
    one, other = learn(tmp_path / "a"), learn(tmp_path / "b", background=False)
    assert same(one, other) and same(one, checkpoint.load(tmp_path / "a"))
    assert names(tmp_path / "a") == names(tmp_path / "b") == [f"step-{n:08d}" for n in (6, 9, 12)]


def test_training_goes_on_while_a_checkpoint_is_written_and_the_next_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, plain, seen = threading.Event(), pieces.save_file, []

    def slowly(*args: Any) -> None:
        if "step-00000003" in str(args[1]):
            assert gate.wait(20)
        plain(*args)

    def look() -> None:
        seen.append(names(tmp_path))
        gate.set()

    monkeypatch.setattr(pieces, "save_file", slowly)
    learn(tmp_path, Noise(5, look))
    assert seen == [[".tmp-step-00000003", "step-00000000"]]  # at step 5 that of step 3 is still being written
    assert "step-00000006" in names(tmp_path)


def test_how_the_run_stands(tmp_path: Path) -> None:
    seen = []
    learn(tmp_path, Noise(5, lambda: seen.append(state(tmp_path))))
    assert seen[0]["state"] == "running" and seen[0]["pid"] == os.getpid() and seen[0]["updated"] > 1.6e9
    assert (state(tmp_path)["state"], state(tmp_path)["step"], state(tmp_path)["reason"]) == ("done", 12, "")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(UserError):
        learn(tmp_path / "b", Noise(5, stop))
    assert (state(tmp_path / "b")["state"], state(tmp_path / "b")["step"]) == ("interrupted", 5)

    def fail() -> None:
        raise RuntimeError("a bug\nof ours")

    with pytest.raises(RuntimeError):
        learn(tmp_path / "c", Noise(5, fail))
    assert (state(tmp_path / "c")["state"], state(tmp_path / "c")["reason"]) == ("failed", "a bug of ours")


def test_a_second_run_in_the_folder_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    learn(tmp_path, steps=3)
    before = state(tmp_path)
    with lock(tmp_path, "run"), pytest.raises(UserError, match="is being written by"):
        learn(tmp_path, resume=True)
    assert state(tmp_path) == before
    learn(tmp_path, resume=True)  # a lock that nobody holds any more does not block


@pytest.mark.parametrize("highest", [False, True])
def test_the_best_is_kept_and_named(highest: bool, tmp_path: Path) -> None:
    rows: list[float] = []
    model = build()
    config = CONFIG.model_copy(update={"best": "loss", "best_is_highest": highest, "keep": 1, "save_every": 2})
    train(model, Noise(), config, tmp_path, log=lambda step, row: rows.append(row["loss"]))
    scores = {step: (rows[step - 2] + rows[step - 1]) / 2 for step in range(2, 13, 2)}
    winner = (max if highest else min)(scores, key=lambda step: scores[step])
    told = json.loads((tmp_path / "best.json").read_text())
    assert told == {
        "step": winner, "metric": "loss", "mode": "max" if highest else "min", "value": pytest.approx(scores[winner])
    }  # fmt: skip
    assert names(tmp_path) == sorted({f"step-{winner:08d}", "step-00000012"})
    best = checkpoint.load(tmp_path, best=True)
    assert same(best, checkpoint.load(tmp_path / "checkpoints" / f"step-{winner:08d}"))


def test_without_a_best_there_is_none_to_load(tmp_path: Path) -> None:
    learn(tmp_path, steps=1, ema=0.0)
    with pytest.raises(UserError, match="names no best checkpoint"):
        checkpoint.load(tmp_path, best=True)
    with pytest.raises(UserError, match="holds no moving average"):
        checkpoint.load(tmp_path, ema=True)


def once(true: Callable[[], bool], act: Callable[[], None]) -> Callable[[], None]:
    """`act`, as soon as that is `true`: checkpoints are written meanwhile, by a thread."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not true():
            assert time.monotonic() < until
            time.sleep(0.01)
        act()

    return wait


def after(run: Path, step: int, act: Callable[[], None]) -> Callable[[], None]:
    """`act`, once the checkpoint of `step` is there."""
    return once(lambda: f"step-{step:08d}" in names(run), act)


def test_a_full_disk_stops_or_is_outlived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = pieces.save_file
    fill, drain = (lambda to=to: monkeypatch.setattr(pieces, "save_file", to) for to in (full, plain))
    with pytest.raises(UserError, match=r"step 6 .* no space left: make room"):
        learn(tmp_path / "a", Noise(4, after(tmp_path / "a", 3, fill)))
    assert names(tmp_path / "a") == ["step-00000000", "step-00000003"]
    assert state(tmp_path / "a")["state"] == "failed"
    drain()
    refused.clear()

    @dataclass
    class Filling(Noise):
        def batch(self, step: int) -> Clip:
            {4: after(tmp_path / "b", 3, fill), 8: once(lambda: bool(refused), drain)}.get(step, lambda: None)()
            return super().batch(step)

    outlived = learn(tmp_path / "b", Filling(), on_full="continue")
    assert "no space left" in caplog.text and "training goes on" in caplog.text
    assert names(tmp_path / "b") == [f"step-{n:08d}" for n in (3, 9, 12)]
    assert same(outlived, learn(None))
    with pytest.raises(UserError, match="no space left"):  # but not that the last one is missing
        learn(tmp_path / "c", Noise(10, after(tmp_path / "c", 9, fill)), on_full="continue")


def test_a_folder_that_disappears_or_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    model = learn(run, Noise(7, after(run, 6, lambda: shutil.rmtree(run))))
    assert names(run) == ["step-00000009", "step-00000012"]  # made anew, for what was learnt is in memory
    assert same(model, learn(None))
    (tmp_path / "file").write_text("")
    drawn = []
    with pytest.raises(UserError, match="file"):
        learn(tmp_path / "file" / "run", Noise(0, lambda: drawn.append(0)))
    assert not drawn  # before anything was learnt


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    drawn = []
    with pytest.raises(UserError, match="is not UTF-8"):
        learn(tmp_path / os.fsdecode(b"run-\xff"), Noise(0, lambda: drawn.append(0)))
    assert not drawn and not list(tmp_path.iterdir())


def test_average_follows_the_weights_and_is_resumed(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    model = build()
    plain = model.after_step
    model.after_step = lambda: (plain(), seen.append(model.eyes.out.weight.detach().clone()))[0]  # type: ignore
    first = model.eyes.out.weight.detach().clone()
    train(model, Noise(), CONFIG, tmp_path / "whole")
    expected = first
    for step, weight in enumerate(seen):
        expected = torch.lerp(expected, weight, 1 - min(0.9, (1 + step) / (10 + step)))
    average = checkpoint.load(tmp_path / "whole", ema=True)
    torch.testing.assert_close(average.state_dict()["eyes.out.weight"], expected)
    assert not same(average, model)

    learn(tmp_path / "parts", steps=5)
    learn(tmp_path / "parts", resume=True)
    assert same(average, checkpoint.load(tmp_path / "parts", ema=True))


def test_python_and_numpy_noise_is_resumed(tmp_path: Path) -> None:
    """A family may use them, though it should not."""
    import random

    import numpy as np

    def noisy(folder: Path, steps: int, resume: bool = False) -> list[float]:
        drawn: list[float] = []
        model = build()
        plain = model.after_step
        model.after_step = lambda: (plain(), drawn.append(random.gauss() + np.random.randn()))[0]  # type: ignore
        train(model, Noise(), CONFIG.model_copy(update={"steps": steps}), folder, resume=resume)
        return drawn

    whole = noisy(tmp_path / "whole", 12)
    first = noisy(tmp_path / "parts", 5)
    random.seed(99)
    np.random.seed(99)
    assert first + noisy(tmp_path / "parts", 12, resume=True) == whole
