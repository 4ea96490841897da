"""Two processes learn what one learns, and whatever happens to one of them, none hangs and the run can go on.

This file is also the script that the processes run. A process takes seconds to begin, so it does several jobs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from innerworld import checkpoint
from innerworld.checkpoint.pieces import Pieces
from innerworld.errors import UserError
from innerworld.log import JsonLines, silent
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.team import join, rank
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
THIS = Path(__file__)
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


@dataclass
class Job:
    """One run. `refused`: it must end with a `UserError` in all processes, and the next job is begun."""

    folder: str
    kind: str
    strategy: str = "ddp"
    mishap: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    change: dict[str, Any] = field(default_factory=dict)
    refused: bool = False


def learn(job: Job) -> None:
    torch.manual_seed(1)
    model = JEPA(JEPAConfig(**MODELS[job.kind]), SPEC)
    if job.kind == "idle":  # a parameter to which no gradient comes
        model.eyes.register_parameter("idle", torch.nn.Parameter(torch.ones(4, 2)))
    if job.mishap.get("what") == "memory":
        run_out(model, job.mishap)
    config, clips, folder = CONFIG.model_copy(update=job.change), Noise(job.mishap), Path(job.folder)
    how: dict[str, Any] = {"resume": job.resume, "strategy": job.strategy}
    if rank():
        train(model, clips, config, folder, silent, **how)
        return
    with JsonLines(folder / "log.jsonl") as log:
        train(model, clips, config, folder, log, **how)


def learn_all(jobs: list[Job]) -> None:
    """One after another, in one meeting of the processes; a single job meets the others by itself."""
    with join("cpu") if len(jobs) > 1 else nullcontext():
        for job in jobs:
            try:
                learn(job)
            except UserError as error:
                if not job.refused:
                    raise
                print(error, file=sys.stderr)
            else:
                assert not job.refused, f"{job} was not refused"


def run_out(model: JEPA, mishap: dict[str, Any]) -> None:
    """Of memory, wherever more than two clips are computed at once."""
    plain = model.loss

    def loss(clip: Clip) -> Any:
        if rank() == mishap["rank"] and len(clip.action) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(clip)

    model.loss = loss  # type: ignore[method-assign]


def told(*jobs: Job) -> str:
    return json.dumps([asdict(job) for job in jobs])


def script(*jobs: Job) -> list[str]:
    os.environ["PYTHONPATH"] = SOURCE
    os.environ["OMP_NUM_THREADS"] = "1"
    return [sys.executable, __file__, told(*jobs)]


def learn_in_two(*jobs: Job) -> int:
    return launch(script(*jobs), 2)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


def assert_nobody_waited(folder: Path) -> None:
    """All ended by themselves once the state was written, before the launcher's grace was over."""
    assert time.time() - (folder / "state.json").stat().st_mtime < 25


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
@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's autocast and its RMSNorm
def test_two_learn_what_one_learns(tmp_path: Path, together: Callable[..., str]) -> None:
    """Also with a parameter that the loss does not use, which holds nobody up, in micro-batches and in bfloat16."""
    micro, half = {"micro_batch": 2}, {"micro_batch": 2, "precision": "bfloat16"}
    for kind in ("small", "blocks", "idle", "no statistics"):
        learn(Job(f"{tmp_path}/{kind}", kind))
    learn(Job(f"{tmp_path}/half", "no statistics", change=half))
    both = [(kind, strategy) for kind in ("small", "blocks", "idle") for strategy in ("ddp", "fsdp")]
    jobs = [Job(f"{tmp_path}/{kind}-{strategy}", kind, strategy) for kind, strategy in both]
    jobs += [Job(f"{tmp_path}/half-ddp", "no statistics", "ddp", change=half)]
    jobs += [Job(f"{tmp_path}/micro-fsdp", "no statistics", "fsdp", change=micro)]
    together(THIS, told(*jobs))
    for kind, strategy in both:
        one, two = tmp_path / kind, tmp_path / f"{kind}-{strategy}"
        if kind == "idle":
            assert losses(two) == pytest.approx(losses(one), rel=1e-5)
        else:
            assert_same(one, two)
    assert losses(tmp_path / "half-ddp") == pytest.approx(losses(tmp_path / "half"), rel=1e-2)
    assert_same(tmp_path / "no statistics", tmp_path / "micro-fsdp")


@pytest.mark.slow
def test_two_go_on_and_so_does_another_number_of_processes(tmp_path: Path, together: Callable[..., str]) -> None:
    """Two with LaProp and clipping by tensor; from one to two and from two to one."""
    laprop = {"optimiser": "laprop", "agc": 0.01, "clip_grad": 0.0}
    learn(Job(f"{tmp_path}/laprop", "blocks", change=laprop))
    learn(Job(f"{tmp_path}/small", "small"))

    def jobs(what: str, steps: int) -> list[Job]:
        kind, change = ("blocks", laprop) if what == "laprop" else ("small", {})
        how = {"resume": steps > 7, "change": {**change, "steps": steps}}
        return [Job(f"{tmp_path}/{what}-{strategy}", kind, strategy, **how) for strategy in ("ddp", "fsdp")]

    together(THIS, told(*jobs("laprop", 7), *jobs("2 to 1", 7)))
    said = together(THIS, told(*jobs("1 to 2", 7), *jobs("2 to 1", 12)), processes=1)
    assert said.count("trained by 2 processes until step 7, now by 1") == 2
    said = together(THIS, told(*jobs("laprop", 12), *jobs("1 to 2", 12)))
    assert said.count("trained by 1 processes until step 7, now by 2") == 2
    for strategy in ("ddp", "fsdp"):
        assert_same(tmp_path / "laprop", tmp_path / f"laprop-{strategy}")
        assert_same(tmp_path / "small", tmp_path / f"2 to 1-{strategy}")
        assert_same(tmp_path / "small", tmp_path / f"1 to 2-{strategy}")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_whatever_ends_them_both_end_and_noise_goes_on_bit_for_bit(
    strategy: str, tmp_path: Path, begun: list[subprocess.Popen[bytes]], together: Callable[..., str]
) -> None:
    """SIGTERM stops both at one step; one is killed and the other ends."""
    stopped, killed, whole = (Job(f"{tmp_path}/{name}", "noisy", strategy) for name in ("stopped", "killed", "whole"))
    assert learn_in_two(replace(stopped, mishap={"step": 7, "rank": 1, "what": "terminate the parent"})) == 143
    assert_nobody_waited(tmp_path / "stopped")
    found = state(tmp_path / "stopped")
    assert (found["state"], found["processes"]) == ("interrupted", 2)
    assert 8 <= found["step"] < 12 and checkpoint.read_header(tmp_path / "stopped").step == found["step"]

    begun.clear()
    died = 128 + signal.SIGKILL
    assert learn_in_two(replace(killed, mishap={"step": 8, "rank": 1, "what": "kill"})) == died
    assert_nobody_waited(tmp_path / "killed")
    found = state(tmp_path / "killed")
    assert found["state"] == "failed" and found["reason"].startswith("process 0 stopped at step 8: another process is")
    assert len(begun) == 2 and None not in [child.returncode for child in begun]

    together(THIS, told(replace(stopped, resume=True), replace(killed, resume=True), whole))
    assert_same(tmp_path / "whole", tmp_path / "stopped", rel=0)
    assert_same(tmp_path / "whole", tmp_path / "killed", rel=0)


@pytest.mark.slow
def test_an_error_in_one_ends_both(tmp_path: Path, capfd: Any) -> None:
    assert learn_in_two(Job(str(tmp_path), "small", mishap={"step": 3, "rank": 1, "what": "raise"})) != 0
    err = capfd.readouterr().err
    assert "the shard is broken" in err and "process 0 stopped at step 3" in err


@pytest.mark.slow
def test_nan_in_one_stops_both_or_is_skipped_by_both(tmp_path: Path, together: Callable[..., str]) -> None:
    nan = {"step": 9, "rank": 1, "what": "nan"}
    both = [Job(f"{tmp_path}/{strategy}", "small", strategy, nan, refused=True) for strategy in ("ddp", "fsdp")]
    together(THIS, told(*both))
    for job in both:
        reason = state(Path(job.folder))["reason"]
        assert "step 9: of the batch, action is not finite" in reason or "action (process 1) is not finite" in reason
        assert "(clips: clip 9)" in reason
        assert checkpoint.read_header(job.folder).step == 6
    skip = {"on_nonfinite": "skip"}
    said = together(THIS, told(*[replace(job, refused=False, resume=True, change=skip) for job in both]))
    assert said.count("skipped, 1 in a row") == 2
    for job in both:
        assert all(p.isfinite().all() for p in checkpoint.load(job.folder).parameters())


@pytest.mark.slow
def test_memory_that_runs_out_in_one_halves_for_both_but_not_under_fsdp(
    tmp_path: Path, together: Callable[..., str]
) -> None:
    """And sigusr1 to one saves for all and goes on."""
    learn(Job(f"{tmp_path}/one", "no statistics"))
    lack, halve = {"rank": 1, "what": "memory"}, {"on_memory": "halve"}
    save = {"step": 2, "rank": 1, "what": "save"}
    jobs = [
        Job(f"{tmp_path}/saved", "small", "fsdp", save, change={"keep": 9}),
        Job(f"{tmp_path}/two", "no statistics", mishap=lack, change=halve),
        Job(f"{tmp_path}/fsdp", "small", "fsdp", change=halve, refused=True),
        Job(f"{tmp_path}/stop", "no statistics", mishap=lack, refused=True),
    ]
    said = together(THIS, told(*jobs))
    assert (tmp_path / "saved" / "checkpoints" / "step-00000003").is_dir()
    assert_same(tmp_path / "one", tmp_path / "two")
    assert "out of memory with 4 clips at once: going on with 2" in said
    assert "on_memory=halve works with --strategy ddp only" in said
    assert "train.micro_batch=2, or train.on_memory=halve" in said


@pytest.mark.slow
def test_without_their_launcher_they_save_and_end(tmp_path: Path) -> None:
    mishap = {"step": 7, "rank": 0, "what": "kill the parent"}
    words = script(Job(str(tmp_path), "small", mishap=mishap, change={"steps": 100_000}))
    code = f"from innerworld.training import launch; launch({words!r}, 2)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while state(tmp_path)["state"] == "running" and time.monotonic() < until:
        time.sleep(0.1)
    assert state(tmp_path)["state"] == "interrupted"


@pytest.mark.slow
def test_torchrun_works_too_and_sigterm_to_it(tmp_path: Path) -> None:
    learn(Job(f"{tmp_path}/one", "small"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert subprocess.run([*torchrun, *script(Job(f"{tmp_path}/two", "small"))[1:]]).returncode == 0
    assert_same(tmp_path / "one", tmp_path / "two")
    mishap = {"step": 7, "rank": 0, "what": "terminate the parent"}
    job = Job(f"{tmp_path}/r", "small", "fsdp", mishap, change={"steps": 10**6})
    assert subprocess.run([*torchrun, *script(job)[1:]]).returncode != 0
    assert state(tmp_path / "r")["state"] == "interrupted"
    assert checkpoint.read_header(tmp_path / "r").step == state(tmp_path / "r")["step"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        learn_all([Job(**job) for job in json.loads(sys.argv[1])])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
