"""Two processes learn what one learns, and whatever happens to one of them, none hangs and the run can go on.

This file is also the script that the processes run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint
from innerworld.checkpoint.pieces import Pieces
from innerworld.errors import UserError
from innerworld.log import JsonLines, silent
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.team import rank
from innerworld.training import TrainConfig, launch, train
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (3,)}, action=2)
CONFIG = TrainConfig(steps=12, lr=1e-3, weight_decay=0.1, log_every=1, save_every=6, device="cpu", threads=1, ema=0.9)
SMALL = {"image_size": 16, "channels": 4, "latent": 8, "hidden": 16, "slices": 16, "rollout": 2, "inverse": 1.0}
STEERED = {**SMALL, "predictor": "transformer", "heads": 2, "head_dim": 4, "history": 2}
MODELS: dict[str, dict[str, Any]] = {
    "small": {**SMALL, "sigreg": 0.1},
    # Blocks in module lists, batch norm, variance and covariance: all that looks at more than one row.
    "blocks": {
        **STEERED, "encoder": "vit", "patch": 8, "vit_dim": 12, "vit_depth": 2, "projector": 12, "std": 1.0, "cov": 1.0
    },
    "noisy": {**STEERED, "dropout": 0.2},
    "no statistics": {**SMALL, "sigreg": 0.0},
    "idle": {**SMALL, "sigreg": 0.1},
}  # fmt: skip
SOURCE = str(Path(checkpoint.__file__).parents[2])


@dataclass
class Noise:
    """Random clips, and what befalls one process at one step."""

    mishap: dict[str, Any] = field(default_factory=dict)

    def batch(self, step: int) -> Clip:
        rng = torch.Generator().manual_seed(step)
        pixels = torch.randint(0, 256, (8, 4, 16, 16, 3), dtype=torch.uint8, generator=rng)
        state, action = torch.randn(8, 4, 3, generator=rng), torch.rand(8, 3, 2, generator=rng)
        clip = Clip({"pixels": pixels, "state": state}, action, torch.zeros(8, 3), torch.zeros(8, 3).bool())
        return self._befall(clip) if (step, rank()) == (self.mishap.get("step"), self.mishap.get("rank")) else clip

    def _befall(self, clip: Clip) -> Clip:
        match self.mishap["what"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)
            case "raise":
                raise UserError("the shard is broken")
            case "terminate the parent":
                self._terminate_the_parent()
            case "kill the parent":
                os.kill(os.getppid(), signal.SIGKILL)
            case "save":
                os.kill(os.getpid(), signal.SIGUSR1)
            case "nan":
                return replace(clip, action=clip.action * torch.nan)
        return clip

    def _terminate_the_parent(self) -> None:
        """Wait until it has passed the signal on: on a busy machine twelve steps may be over before."""
        heeded, arrived = signal.getsignal(signal.SIGTERM), False

        def arrive(number: int, frame: Any) -> None:
            nonlocal arrived
            arrived = True
            assert callable(heeded)
            heeded(number, frame)

        signal.signal(signal.SIGTERM, arrive)
        os.kill(os.getppid(), signal.SIGTERM)
        deadline = time.monotonic() + 20
        while not arrived and time.monotonic() < deadline:
            time.sleep(0.01)

    def origin(self, step: int) -> list[str]:
        return [f"clip {step}"]


def learn(folder: Path, kind: str, strategy: str, mishap: dict[str, Any], resume: bool = False, **change: Any) -> None:
    torch.manual_seed(1)
    model = JEPA(JEPAConfig(**MODELS[kind]), SPEC)
    if kind == "idle":  # a parameter to which no gradient comes
        model.eyes.register_parameter("idle", torch.nn.Parameter(torch.ones(4, 2)))
    if mishap.get("what") == "memory":
        run_out(model, mishap)
    config, clips = CONFIG.model_copy(update=change), Noise(mishap)
    if rank():
        train(model, clips, config, folder, silent, resume=resume, strategy=strategy)  # type: ignore[arg-type]
        return
    with JsonLines(folder / "log.jsonl") as log:
        train(model, clips, config, folder, log, resume=resume, strategy=strategy)  # type: ignore[arg-type]


def run_out(model: JEPA, mishap: dict[str, Any]) -> None:
    """Of memory, wherever more than two clips are computed at once."""
    plain = model.loss

    def loss(clip: Clip) -> Any:
        if rank() == mishap["rank"] and len(clip.action) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(clip)

    model.loss = loss  # type: ignore[method-assign]


def script(folder: Path, kind: str, strategy: str, mishap: dict[str, Any], *more: Any) -> list[str]:
    os.environ["PYTHONPATH"] = SOURCE
    os.environ["OMP_NUM_THREADS"] = "1"
    return [sys.executable, __file__, str(folder), kind, strategy, json.dumps(mishap), *map(json.dumps, more)]


def learn_in_two(
    folder: Path, kind: str, strategy: str, mishap: dict[str, Any] | None = None, resume: bool = False, **change: Any
) -> int:
    return launch(script(folder, kind, strategy, mishap or {}, resume, change), 2)


WHOLE: dict[str, Path] = {}


def whole_of(strategy: str, folders: pytest.TempPathFactory) -> Path:
    """A run with noise that nothing befell, made once."""
    if strategy not in WHOLE:
        folder = folders.mktemp(strategy)
        assert learn_in_two(folder, "noisy", strategy) == 0
        WHOLE[strategy] = folder
    return WHOLE[strategy]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


def assert_same(one: Path, other: Path, rel: float = 1e-5) -> None:
    assert losses(other) == pytest.approx(losses(one), rel=rel)
    assert len(losses(one)) == CONFIG.steps
    # A bias before a batch norm, or of a key, changes nothing: there Adam makes steps out of rounding errors, and the
    # norm's running mean follows that bias.
    memory = Pieces(sorted((one / "checkpoints" / "step-00000012").glob("optimiser*")))
    seconds = {name: memory.read(name) for name in memory.names() if name.endswith("/exp_avg_sq")}
    idle = {name.removesuffix("/exp_avg_sq") for name, value in seconds.items() if value.sqrt().min() < 1e-7}
    for ema in (False, True):
        a, b = (checkpoint.load(folder, ema=ema).state_dict() for folder in (one, other))
        for name, value in a.items():
            if name not in idle and not name.endswith("running_mean"):
                torch.testing.assert_close(b[name], value, rtol=rel, atol=rel, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "blocks"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_learn_what_one_learns(kind: str, strategy: str, tmp_path: Path) -> None:
    learn(tmp_path / "one", kind, "ddp", {})
    assert learn_in_two(tmp_path / "two", kind, strategy) == 0
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_laprop_and_clipping_by_tensor_in_two_and_resumed(strategy: str, tmp_path: Path) -> None:
    change = {"optimiser": "laprop", "agc": 0.01, "clip_grad": 0.0}
    learn(tmp_path / "one", "blocks", "ddp", {}, **change)
    for resume, steps in ((False, 7), (True, 12)):
        assert learn_in_two(tmp_path / "two", "blocks", strategy, None, resume, steps=steps, **change) == 0
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_parameter_that_the_loss_does_not_use_holds_nobody_up(strategy: str, tmp_path: Path) -> None:
    learn(tmp_path / "one", "idle", "ddp", {})
    assert learn_in_two(tmp_path / "two", "idle", strategy) == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's autocast and its RMSNorm
def test_micro_batches_and_bfloat16_in_two(tmp_path: Path) -> None:
    change = {"micro_batch": 2, "precision": "bfloat16"}
    learn(tmp_path / "one", "no statistics", "ddp", {}, **change)
    assert learn_in_two(tmp_path / "two", "no statistics", "ddp", **change) == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-2)
    learn(tmp_path / "full", "no statistics", "ddp", {})
    change["precision"] = "float32"
    assert learn_in_two(tmp_path / "micro", "no statistics", "fsdp", **change) == 0
    assert_same(tmp_path / "full", tmp_path / "micro")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_sigterm_stops_both_at_one_step_and_noise_goes_on_bit_for_bit(
    strategy: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = whole_of(strategy, tmp_path_factory)
    mishap = {"step": 7, "rank": 1, "what": "terminate the parent"}
    began = time.monotonic()
    assert learn_in_two(tmp_path / "parts", "noisy", strategy, mishap) == 143
    assert time.monotonic() - began < 25
    told = state(tmp_path / "parts")
    assert (told["state"], told["processes"]) == ("interrupted", 2)
    assert 8 <= told["step"] < 12 and checkpoint.read_header(tmp_path / "parts").step == told["step"]
    assert learn_in_two(tmp_path / "parts", "noisy", strategy, resume=True) == 0
    assert_same(whole, tmp_path / "parts", rel=0)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "first", "then"), [("ddp", 1, 2), ("ddp", 2, 1), ("fsdp", 1, 2), ("fsdp", 2, 1)])
def test_another_number_of_processes_goes_on(strategy: str, first: int, then: int, tmp_path: Path, capfd: Any) -> None:
    learn(tmp_path / "whole", "small", "ddp", {})
    for processes, resume, steps in ((first, False, 7), (then, True, 12)):
        assert launch(script(tmp_path / "r", "small", strategy, {}, resume, {"steps": steps}), processes) == 0
    assert f"trained by {first} processes until step 7, now by {then}" in capfd.readouterr().err
    assert_same(tmp_path / "whole", tmp_path / "r")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_is_killed_and_the_other_ends(
    strategy: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, begun: list[subprocess.Popen[bytes]]
) -> None:
    whole = whole_of(strategy, tmp_path_factory)
    begun.clear()
    began = time.monotonic()
    mishap = {"step": 8, "rank": 1, "what": "kill"}
    assert learn_in_two(tmp_path / "parts", "noisy", strategy, mishap) == 128 + signal.SIGKILL
    assert time.monotonic() - began < 60
    told = state(tmp_path / "parts")
    assert told["state"] == "failed" and told["reason"].startswith("process 0 stopped at step 8: another process is")
    assert len(begun) == 2 and None not in [child.returncode for child in begun]
    assert learn_in_two(tmp_path / "parts", "noisy", strategy, resume=True) == 0
    assert_same(whole, tmp_path / "parts", rel=0)


@pytest.mark.slow
def test_an_error_in_one_ends_both(tmp_path: Path, capfd: Any) -> None:
    assert learn_in_two(tmp_path, "small", "ddp", {"step": 3, "rank": 1, "what": "raise"}) != 0
    err = capfd.readouterr().err
    assert "the shard is broken" in err and "process 0 stopped at step 3" in err


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_nan_in_one_stops_both_or_is_skipped_by_both(strategy: str, tmp_path: Path, capfd: Any) -> None:
    mishap = {"step": 9, "rank": 1, "what": "nan"}
    assert learn_in_two(tmp_path / "r", "small", strategy, mishap) != 0
    reason = state(tmp_path / "r")["reason"]
    assert "step 9: of the batch, action is not finite" in reason or "action (process 1) is not finite" in reason
    assert "(clips: clip 9)" in reason
    assert checkpoint.read_header(tmp_path / "r").step == 6
    assert learn_in_two(tmp_path / "r", "small", strategy, mishap, True, on_nonfinite="skip") == 0
    assert "skipped, 1 in a row" in capfd.readouterr().err
    assert all(p.isfinite().all() for p in checkpoint.load(tmp_path / "r").parameters())


@pytest.mark.slow
def test_sigusr1_to_one_saves_for_all_and_goes_on(tmp_path: Path) -> None:
    mishap = {"step": 2, "rank": 1, "what": "save"}
    assert learn_in_two(tmp_path, "small", "fsdp", mishap, keep=9) == 0
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()


@pytest.mark.slow
def test_memory_that_runs_out_in_one_halves_for_both(tmp_path: Path, capfd: Any) -> None:
    learn(tmp_path / "one", "no statistics", "ddp", {})
    mishap = {"rank": 1, "what": "memory"}
    assert learn_in_two(tmp_path / "two", "no statistics", "ddp", mishap, on_memory="halve") == 0
    assert "out of memory with 4 clips at once: going on with 2" in capfd.readouterr().err
    assert_same(tmp_path / "one", tmp_path / "two")
    assert learn_in_two(tmp_path / "stop", "no statistics", "ddp", mishap) != 0
    assert "train.micro_batch=2, or train.on_memory=halve" in capfd.readouterr().err


@pytest.mark.slow
def test_fsdp_does_not_halve(tmp_path: Path, capfd: Any) -> None:
    assert learn_in_two(tmp_path, "small", "fsdp", on_memory="halve") != 0
    assert "on_memory=halve works with --strategy ddp only" in capfd.readouterr().err


@pytest.mark.slow
def test_without_their_launcher_they_save_and_end(tmp_path: Path) -> None:
    mishap = {"step": 7, "rank": 0, "what": "kill the parent"}
    words = script(tmp_path, "small", "ddp", mishap, False, {"steps": 100_000})
    code = f"from innerworld.training import launch; launch({words!r}, 2)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while state(tmp_path)["state"] == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert state(tmp_path)["state"] == "interrupted"


@pytest.mark.slow
def test_torchrun_works_too_and_sigterm_to_it(tmp_path: Path) -> None:
    learn(tmp_path / "one", "small", "ddp", {})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert subprocess.run([*torchrun, *script(tmp_path / "two", "small", "ddp", {}, False, {})[1:]]).returncode == 0
    assert_same(tmp_path / "one", tmp_path / "two")
    mishap = {"step": 7, "rank": 0, "what": "terminate the parent"}
    stopped = subprocess.run([*torchrun, *script(tmp_path / "r", "small", "fsdp", mishap, False, {"steps": 10**6})[1:]])
    assert stopped.returncode != 0
    assert state(tmp_path / "r")["state"] == "interrupted"
    assert checkpoint.read_header(tmp_path / "r").step == state(tmp_path / "r")["step"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    told = [json.loads(word) for word in sys.argv[4:]]
    try:
        learn(Path(sys.argv[1]), sys.argv[2], sys.argv[3], told[0], told[1], **told[2])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
