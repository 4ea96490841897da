"""Training: what it does to the weights, and that every way of stopping can be continued exactly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld import checkpoint
from innerworld.checkpoint import pieces
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.collapse import CollapseWatch
from innerworld.log import JsonLines
from innerworld.training import FREE_ON_RESUME, Interrupted, TrainConfig, choose_device, learning_rate, train
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC = Spec({"state": (3,)}, action=2)
CONFIG = TrainConfig(steps=40, lr=1e-2, warmup=5, final_lr_fraction=0.1, weight_decay=0.1, save_every=10, device="cpu")


class Linear(WorldModel):
    """A linear latent model with all that makes resuming hard: dropout, global noise, a moving average, a counter."""

    class Config(Config):
        dim: int = Field(default=4, description="size of the latent")

    def __init__(self, config: Linear.Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.look = nn.Linear(spec.obs["state"][0], config.dim)
        self.act = nn.Linear(config.dim + spec.action, config.dim)
        self.norm = nn.BatchNorm1d(config.dim)
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("slow", torch.zeros(config.dim))
        self.scale: Tensor  # of what is seen, found before the first step
        self.register_buffer("scale", torch.ones(()))

    def prepare(self, clip: Clip) -> None:
        self.scale.div_(clip.obs["state"].std())

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": self.look(obs["state"] * self.scale)}

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return {"z": self.act(torch.cat([state["z"], action], dim=-1))}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.norm(self.dropout(self.look(clip.at(0)["state"])))
        z = self.predict({"z": z + 0.1 * torch.randn_like(z)}, clip.action[:, 0])["z"]
        miss = (z - self.look(clip.at(1)["state"])).square().mean()
        spread = (1 - z.std(0)).square().mean()
        return miss + spread, {"miss": miss.detach(), "spread": spread.detach()}

    def after_step(self) -> None:
        with torch.no_grad():
            self.slow.lerp_(self.look.bias, 0.1)


@dataclass
class Noise:
    """Random clips; `upset` is called at the step `when`, and may change the clip or raise."""

    when: int = -1
    upset: Callable[[Clip], Clip] | None = None

    def batch(self, step: int) -> Clip:
        rng = torch.Generator().manual_seed(step)
        obs = torch.randn(8, 2, 3, generator=rng)
        clip = Clip(
            {"state": obs}, torch.rand(8, 1, 2, generator=rng), torch.zeros(8, 1), torch.zeros(8, 1, dtype=torch.bool)
        )
        return self.upset(clip) if self.upset and step == self.when else clip


def build(dim: int = 4) -> Linear:
    torch.manual_seed(1)
    return Linear(Linear.Config(dim=dim), SPEC)


def same(a: WorldModel, b: WorldModel) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_the_loss_falls_and_rows_carry_what_was_measured() -> None:
    rows: dict[int, dict[str, float]] = {}
    model = train(
        build(), Noise(), CONFIG.model_copy(update={"steps": 300}), log=lambda step, row: rows.update({step: dict(row)})
    )
    assert list(rows) == [*range(0, 300, 20), 299]
    assert rows[0].keys() == {"loss", "grad_norm", "lr", "miss", "spread"}
    assert rows[299]["loss"] < 0.7 * rows[0]["loss"]
    assert not model.training


def test_resume_is_bit_exact(tmp_path: Path) -> None:
    whole = train(build(), Noise(), CONFIG, tmp_path / "whole")
    with pytest.raises(UserError, match="interrupted at step 17: continue with --resume"):
        train(build(), Noise(17, interrupt), CONFIG, tmp_path / "parts")
    torch.manual_seed(99)  # another process would be in another random state
    parts = Linear(Linear.Config(), SPEC)
    train(parts, Noise(), CONFIG, tmp_path / "parts", resume=True)
    assert same(whole, parts)
    a, b = (
        f / "checkpoints" / "step-00000040" / "optimiser.safetensors" for f in (tmp_path / "whole", tmp_path / "parts")
    )
    assert a.read_bytes() == b.read_bytes()


def test_a_model_is_prepared_once_with_the_first_clips(tmp_path: Path) -> None:
    few = CONFIG.model_copy(update={"steps": 3})
    model = train(build(), Noise(), few, tmp_path)
    scale = 1 / Noise().batch(0).obs["state"].std()
    assert torch.equal(model.scale, scale) and scale != 1
    again = Linear(Linear.Config(), SPEC)
    train(again, Noise(), few.model_copy(update={"steps": 5}), tmp_path, resume=True)
    assert torch.equal(again.scale, scale)


def test_saving_and_watching_do_not_change_the_run(tmp_path: Path) -> None:
    alone = train(build(), Noise(), CONFIG)
    model = build()
    often = CONFIG.model_copy(update={"save_every": 3, "check_every": 2, "log_every": 1})
    train(model, Noise(), often, tmp_path, watch=CollapseWatch(model, Noise().batch(1000), "state"))
    assert same(alone, model)


def test_seed_decides_the_run() -> None:
    again, other = build(), build()
    train(again, Noise(), CONFIG)
    train(other, Noise(), CONFIG.model_copy(update={"seed": 1}))
    assert same(train(build(), Noise(), CONFIG), again)
    assert not same(again, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "newest"), [("batch", 20), ("before rename", 10), ("after rename", 20), ("while deleting", 10)]
)
def test_resume_after_sigkill_is_bit_exact(
    tmp_path: Path, where: str, newest: int, run_elsewhere: Callable[[Path, str], int]
) -> None:
    whole = train(build(), Noise(), CONFIG)
    assert run_elsewhere(tmp_path / "run", where) == -signal.SIGKILL
    assert checkpoint.read_header(tmp_path / "run").step == newest
    assert bool(list((tmp_path / "run" / "checkpoints").glob(".tmp*"))) == (
        where in ("before rename", "while deleting")
    )
    parts = build()
    with JsonLines(tmp_path / "run" / "log.jsonl") as log:
        train(parts, Noise(), CONFIG, tmp_path / "run", log=log, resume=True)
    assert same(whole, parts)
    steps = [line.split(",")[0] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 0', '{"step": 20', '{"step": 39']
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp*"))


@pytest.mark.slow
def test_sigterm_saves_between_two_steps_and_exits(tmp_path: Path, run_elsewhere: Callable[[Path, str], int]) -> None:
    whole = train(build(), Noise(), CONFIG)
    assert run_elsewhere(tmp_path, "terminate") == 143
    assert checkpoint.read_header(tmp_path).step == 24
    assert same(whole, train(build(), Noise(), CONFIG, tmp_path, resume=True))


def test_ctrl_c_by_signal_finishes_the_step_and_restores_the_handlers(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        train(build(), Noise(5, lambda clip: (signal.raise_signal(signal.SIGINT), clip)[1]), CONFIG, tmp_path)
    assert caught.value.code == 130
    assert checkpoint.read_header(tmp_path).step == 6
    assert signal.getsignal(signal.SIGINT) is before


def test_sigusr1_saves_and_goes_on(tmp_path: Path) -> None:
    clips = Noise(4, lambda clip: (signal.raise_signal(signal.SIGUSR1), clip)[1])
    model = train(build(), clips, CONFIG.model_copy(update={"keep": 9}), tmp_path)
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == [f"step-{step:08d}" for step in (0, 5, 10, 20, 30, 40)]
    assert same(model, train(build(), Noise(), CONFIG))


def test_a_second_ctrl_c_a_while_later_acts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 5.0])
    monkeypatch.setattr("innerworld.training.requests.monotonic", lambda: next(now))

    def twice(clip: Clip) -> Clip:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("it came")

    with pytest.raises(RuntimeError, match="it came"):
        train(build(), Noise(5, twice), CONFIG, tmp_path)


def test_ctrl_c_from_the_log_keeps_the_step(tmp_path: Path) -> None:
    def log(step: int, row: object) -> None:
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="step 21"):
        train(build(), Noise(), CONFIG, tmp_path, log=log)
    assert same(train(build(), Noise(), CONFIG), train(build(), Noise(), CONFIG, tmp_path, resume=True))


def test_without_a_folder_an_interrupt_says_that_nothing_was_saved() -> None:
    with pytest.raises(Interrupted, match="nothing was saved"):
        train(build(), Noise(5, interrupt), CONFIG)


def test_it_trains_in_a_thread(tmp_path: Path) -> None:
    models: list[WorldModel] = []
    thread = threading.Thread(target=lambda: models.append(train(build(), Noise(), CONFIG)))
    thread.start()
    thread.join()
    assert same(models[0], train(build(), Noise(), CONFIG))


@pytest.mark.parametrize("error", [UserError("the world has crashed"), ValueError("a bug")])
def test_when_clips_end_in_an_error_what_was_learnt_is_saved(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        train(build(), Noise(13, lambda clip: fail(error)), CONFIG, tmp_path)
    assert caught.value is error
    assert checkpoint.read_header(tmp_path).step == 13
    told = json.loads((tmp_path / "state.json").read_text())
    assert (told["state"], told["step"], told["reason"]) == ("failed", 13, str(error))
    assert same(train(build(), Noise(), CONFIG), train(build(), Noise(), CONFIG, tmp_path, resume=True))


def test_what_was_just_saved_is_not_saved_again_when_clips_end_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = checkpoint.take
    monkeypatch.setattr(checkpoint, "take", lambda *args: (taken.append(args[2]), take(*args))[1])
    with pytest.raises(UserError, match="the world has crashed"):
        train(build(), Noise(10, lambda clip: fail(UserError("the world has crashed"))), CONFIG, tmp_path)
    assert taken == [0, 10]


def test_a_full_disk_does_not_hide_the_error_of_the_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    def upset(clip: Clip) -> Clip:
        monkeypatch.setattr(pieces, "save_file", full)
        return fail(UserError("the world has crashed"))

    with pytest.raises(UserError, match="the world has crashed"):
        train(build(), Noise(13, upset), CONFIG.model_copy(update={"background": False}), tmp_path)
    assert "cannot save the checkpoint of step 13" in caplog.text
    assert checkpoint.read_header(tmp_path).step == 10


@pytest.mark.parametrize(
    ("upset", "message"),
    [
        (lambda clip: replace(clip, obs={"state": clip.obs["state"] * torch.nan}), "step 13: of the batch, state is"),
        (lambda clip: replace(clip, action=clip.action / 0), "step 13: of the batch, action is"),
        (lambda clip: replace(clip, action=clip.action + 1e30), "step 13: of the loss, the part miss is"),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_the_step(
    tmp_path: Path, upset: Callable[[Clip], Clip], message: str
) -> None:
    model = build()
    with pytest.raises(UserError, match=message):
        train(model, Noise(13, upset), CONFIG, tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert checkpoint.read_header(tmp_path).step == 10
    assert same(train(build(), Noise(), CONFIG), train(build(), Noise(), CONFIG, tmp_path, resume=True))


def test_a_gradient_that_is_not_finite_stops_and_is_named() -> None:
    class Steep(Linear):
        def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
            loss, parts = super().loss(clip)
            return loss + self.slope(self.look.bias), parts

        def slope(self, bias: Tensor) -> Tensor:
            return (bias[0] - bias[0].detach()).abs().sqrt()  # 0, with an infinite slope there

    model = Steep(Linear.Config(), SPEC)
    before = model.look.bias.detach().clone()
    with pytest.raises(UserError, match=r"step 0: the gradient of look.bias is not finite"):
        train(model, Noise(), CONFIG)
    assert torch.equal(model.look.bias, before)


@pytest.mark.parametrize(
    ("change", "field"), [({"lr": 2e-2}, "lr was 0.01, now 0.02"), ({"betas": (0.5, 0.9)}, "betas")]
)
def test_another_configuration_cannot_resume(tmp_path: Path, change: dict[str, object], field: str) -> None:
    train(build(), Noise(), CONFIG.model_copy(update={"steps": 5}), tmp_path)
    with pytest.raises(UserError, match=f"cannot resume: train {field}"):
        train(build(), Noise(), CONFIG.model_copy(update=change), tmp_path, resume=True)


def test_steps_log_and_keep_may_change_on_resume(tmp_path: Path) -> None:
    train(build(), Noise(), CONFIG.model_copy(update={"steps": 5}), tmp_path)
    more = CONFIG.model_copy(update={"log_every": 1, "check_every": 7, "save_every": 7, "keep": 1, "threads": None})
    train(build(), Noise(), more, tmp_path, resume=True)
    assert checkpoint.read_header(tmp_path).step == 40


def test_another_model_cannot_resume(tmp_path: Path) -> None:
    train(build(), Noise(), CONFIG.model_copy(update={"steps": 1}), tmp_path)
    with pytest.raises(UserError, match="model dim was 4, now 5"):
        train(build(5), Noise(), CONFIG, tmp_path, resume=True)


def test_folder_mistakes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="give the run's folder"):
        train(build(), Noise(), CONFIG, resume=True)
    with pytest.raises(UserError, match="there is no folder"):
        train(build(), Noise(), CONFIG, tmp_path / "typo", resume=True)
    train(build(), Noise(), CONFIG.model_copy(update={"steps": 1}), tmp_path, resume=True)
    assert "nothing to resume" in caplog.text
    with pytest.raises(UserError, match="already holds a run"):
        train(build(), Noise(), CONFIG, tmp_path)


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        if checkpoint.exists(tmp_path) and checkpoint.read_header(tmp_path).step == 10:
            raise OSError(28, "No space left on device")
        save_file(*args)

    save_file = pieces.save_file
    monkeypatch.setattr(pieces, "save_file", full)
    with pytest.raises(UserError, match=r"step 20 .* no space left: make room"):
        train(build(), Noise(), CONFIG, tmp_path)
    monkeypatch.undo()
    assert same(train(build(), Noise(), CONFIG), train(build(), Noise(), CONFIG, tmp_path, resume=True))


def test_vectors_do_not_decay_and_idle_parameters_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = build()
    model.idle = nn.Parameter(torch.ones(2, 2))
    model.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    model.look.weight.register_hook(torch.zeros_like)
    model.look.bias.register_hook(torch.zeros_like)
    before = build()
    train(model, Noise(), CONFIG.model_copy(update={"steps": 3}))
    assert torch.equal(model.look.bias, before.look.bias)
    assert model.look.weight.abs().sum() < before.look.weight.abs().sum()
    assert caplog.messages == ["1 parameters get no gradient, the first is idle: does the loss use them?"]


class Staged(Linear):
    """Its eyes learn alone for 3 steps, are then held still, and the rest learns."""

    def __init__(self, config: Linear.Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.taught: Tensor
        self.register_buffer("taught", torch.zeros((), dtype=torch.long))
        self.idle = nn.Parameter(torch.ones(2, 2))

    def waits(self) -> bool:
        return int(self.taught) < 3

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self.look(clip.at(0)["state"])
        if self.waits():
            return seen.square().mean(), {}
        guess = self.norm(self.predict({"z": seen.detach()}, clip.action[:, 0])["z"])
        return (guess - seen.detach()).square().mean(), {}

    def after_step(self) -> None:
        self.taught += 1


@pytest.mark.parametrize("stop", [2, 5])  # in the first stage, in the second
def test_who_learns_in_stages_is_asked_in_the_last_one(
    stop: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits and what is held still is not idle; what never learns is, also after the run went on."""

    def interrupt(clip: Clip) -> Clip:
        raise RuntimeError("stopped")

    told = ["1 parameters get no gradient, the first is idle: does the loss use them?"]
    config = CONFIG.model_copy(update={"steps": 6, "save_every": 1})
    whole = train(Staged(Linear.Config(), SPEC), Noise(), config)
    assert caplog.messages == told
    caplog.clear()
    with pytest.raises(RuntimeError, match="stopped"):
        train(Staged(Linear.Config(), SPEC), Noise(stop, interrupt), config, tmp_path)
    assert caplog.messages == (told if stop > 3 else [])
    caplog.clear()
    again = train(Staged(Linear.Config(), SPEC), Noise(), config, tmp_path, resume=True)
    assert caplog.messages == told and again.state_dict().keys() == whole.state_dict().keys()


def test_clip_grad_limits_the_norm_that_is_logged_before_it() -> None:
    norms: list[float] = []
    sizes: list[float] = []
    model = build()
    after = model.after_step

    def measure() -> None:
        sizes.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item())
        after()

    model.after_step = measure  # type: ignore[method-assign]
    config = CONFIG.model_copy(update={"steps": 3, "log_every": 1, "clip_grad": 0.01})
    train(model, Noise(), config, log=lambda step, row: norms.append(row["grad_norm"]))
    assert min(norms) > 0.1
    assert sizes == pytest.approx([0.01] * 3, rel=1e-3)


def test_bfloat16_on_the_cpu_must_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = CONFIG.model_copy(update={"steps": 3})
    full = train(build(), Noise(), config)
    auto = train(build(), Noise(), config.model_copy(update={"precision": "bfloat16", "device": "auto"}))
    assert same(full, auto)
    assert "training in float32" in caplog.text
    half = train(build(), Noise(), config.model_copy(update={"precision": "bfloat16"}))
    assert not same(full, half)
    assert half.state_dict()["look.weight"].dtype == torch.float32


def test_compile_is_used_for_the_loss_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f) or f)
    model = build()
    train(model, Noise(), CONFIG.model_copy(update={"compile": True}))
    assert compiled == [model.loss]
    assert same(model, train(build(), Noise(), CONFIG))


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no cuda device here"):
        choose_device("cuda")
    with pytest.raises(UserError, match="Did you mean 'cuda'"):
        choose_device("cude")


def test_what_may_change_on_resume_is_there() -> None:
    assert set(FREE_ON_RESUME) <= set(TrainConfig.model_fields)


def test_learning_rate() -> None:
    config = TrainConfig(steps=101, lr=1.0, warmup=10, final_lr_fraction=0.2)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6)
    assert rates[100] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert {learning_rate(step, TrainConfig(lr=0.5)) for step in range(9)} == {0.5}


def test_the_step_is_as_large_as_the_rate_says() -> None:
    """Adam's first step moves each weight by the learning rate, whatever its gradient."""
    before, config = build(), TrainConfig(steps=1, lr=1e-2, warmup=10, device="cpu")
    after = train(build(), Noise(), config)
    moved = (after.get_parameter("act.weight") - before.act.weight).abs()
    assert torch.allclose(moved, torch.tensor(1e-3), rtol=1e-2)


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(UserError, match="no parameter to train"):
        train(build().requires_grad_(False), Noise(), CONFIG)


# ---------------------------------------------------------------------- a run in another process


@pytest.fixture
def run_elsewhere(begin: Callable[..., Any]) -> Callable[[Path, str], int]:
    """Run this very file as a script that trains into a folder and dies at `where`; its exit status."""
    return lambda folder, where: begin(Path(__file__), folder, where, torch.get_num_threads()).end()[0]


def die(*anything: object) -> Clip:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def interrupt(clip: Clip) -> Clip:
    raise KeyboardInterrupt


def fail(error: Exception) -> Clip:
    raise error


def terminate(clip: Clip) -> Clip:
    """As `timeout` does it: to the process, and at once again to its group."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    return clip


def die_at(name: str, count: int) -> None:
    """Replace a function of the checkpoint module's `os` or `shutil` by one that kills at its last call."""
    module = {"rename": os, "fsync": os, "rmtree": shutil}[name]
    real, calls = getattr(module, name), []

    def dying(*args: object) -> object:
        calls.append(args)
        return die() if len(calls) == count else real(*args)

    setattr(module, name, dying)


def main(folder: Path, where: str) -> None:
    clips = Noise(23, {"batch": die, "terminate": terminate}.get(where))
    if where == "before rename":
        die_at("rename", 3)  # 0, 10 and then 20: step 10 is the newest that exists
    if where == "after rename":
        die_at("fsync", 20)  # two of state.json, five a checkpoint and a sixth after the rename: that of step 20
    if where == "while deleting":
        die_at("rmtree", 1)
    config = CONFIG.model_copy(update={"background": False, "keep": 1 if where == "while deleting" else 3})
    try:
        train(build(), clips, config, folder, log=JsonLines(folder / "log.jsonl"))
    except Interrupted as stop:
        sys.exit(stop.code)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    main(Path(sys.argv[1]), sys.argv[2])
