"""`innerworld doctor`: what is here, what is missing and how to get it, and one second of proof that it works."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from innerworld import __version__, models
from innerworld.agent import Agent
from innerworld.cli.table import show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.errors import UserError
from innerworld.plan import ICEM
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig, choose_device, train
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

PACKAGES = ("torch", "numpy", "gymnasium", "pydantic", "safetensors", "tyro", "rich")
EXTRAS = {  # module: (the extra that brings it, what it is for)
    "av": ("data", "video, and data sets that hold any"),
    "pyarrow": ("data", "Parquet: LeRobot data sets and tables"),
    "h5py": ("data", "HDF5: Minari, D4RL, robomimic"),
    "numcodecs": ("data", "Zarr: Push-T demonstrations; compressed stores"),
    "fsspec": ("data", "stores in a bucket"),
    "torchcodec": ("fast", "another decoder of video"),
    "tensorboard": ("track", "train --track tensorboard"),
    "trackio": ("trackio", "train --track trackio"),
    "wandb": ("track", "train --track wandb"),
    "ray": ("cluster", "work on many machines"),
    "gym_pusht": ("pusht", "the world pusht"),
    "pygame": ("envs", "pictures of Gymnasium's classic control"),
}
ROOM = 5e9  # bytes: a store of pictures and a few runs
SHARED = 1e8  # bytes of shared memory, below which processes that hand each other batches fail
FILES = 1024  # open files: a large store keeps one open for each shard that it has read lately


@dataclass(frozen=True)
class DoctorFlags:
    """Is everything here that is needed, and does it work?"""


@dataclass(frozen=True)
class Finding:
    what: str
    state: Literal["ok", "missing", "problem"]
    text: str


class _Same:
    """Always the same clip."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def batch(self, step: int) -> Clip:
        return self.clip


def _doctor(flags: DoctorFlags, call: Call) -> Answer:
    test = _self_test()
    findings = [
        *_versions(),
        *_devices(),
        _compiler(),
        _processes(),
        _video(),
        _disk(),
        *_limits(),
        *_extras(),
        test,
    ]

    def show(console: Console) -> None:
        show_table(console, ("what", "state", "what to know or do"), [(f.what, f.state, f.text) for f in findings])

    healthy = test.state == "ok"
    return Answer({"healthy": healthy, "findings": [asdict(f) for f in findings]}, show, 0 if healthy else 1)


def _versions() -> list[Finding]:
    python = Finding("python", "ok", platform.python_version())
    return [Finding("innerworld", "ok", __version__), python, *(_version(package) for package in PACKAGES)]


def _version(package: str) -> Finding:
    try:
        return Finding(package, "ok", version(package))
    except PackageNotFoundError:
        return Finding(package, "missing", f"pip install {package}")


def _devices() -> list[Finding]:
    here = choose_device("auto").type
    text = (
        "cpu only: small models train well on it"
        if here == "cpu"
        else f"{here} is used unless train.device says otherwise"
    )
    if here == "cuda":
        text = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}: {text}"
    return [Finding("device", "ok", text), _threads(torch.get_num_threads(), cores())]


def _threads(threads: int, cores: float) -> Finding:
    """More threads than cores wait for each other, which is slower than fewer."""
    text = f"{threads} on {cores:g} cores; train.threads=N changes it"
    if threads > max(1, cores):
        return Finding("threads", "problem", f"{text}: more than there are cores for, which is slow")
    return Finding("threads", "ok", text)


def _compiler() -> Finding:
    """For `train.compile=true`; on the CPU torch needs a C++ compiler, on CUDA Triton brings its own."""
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if torch.cuda.is_available() and find_spec("triton") is not None:
        return Finding("compile", "ok", "torch.compile by Triton: train.compile=true")
    if found is None:
        return Finding("compile", "missing", "no C++ compiler, which train.compile=true needs on the CPU")
    return Finding("compile", "ok", f"torch.compile by {found}: train.compile=true")


def _processes() -> Finding:
    """Several processes that train one model."""
    if not torch.distributed.is_available():
        return Finding("distributed", "missing", "this build of torch trains in one process only")
    known = {"gloo": torch.distributed.is_gloo_available(), "nccl": torch.distributed.is_nccl_available()}
    here = [name for name, there in known.items() if there]
    if not here:
        return Finding("distributed", "missing", "this build of torch has neither gloo nor nccl: one process only")
    return Finding("distributed", "ok", f"{' and '.join(here)}: train --devices N")


def _video() -> Finding:
    from innerworld.data.video import backend

    try:
        found = backend()
    except UserError as error:
        return Finding("video", "missing", str(error))
    return Finding("video", "ok", f"{found.name} {found.version}: {found.why}")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    if free < ROOM:
        return Finding("disk", "problem", f"{free / 1e9:.1f} GB free here: make room, or write elsewhere with --out")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free here")


def _limits() -> list[Finding]:
    """What the system allows, where it tells."""
    findings = []
    if sys.platform != "win32":
        import resource

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        few = 0 <= files < FILES
        findings.append(
            Finding("open files", "problem", f"{files} allowed: allow more with ulimit -n {FILES}")
            if few
            else Finding("open files", "ok", "no limit" if files < 0 else f"{files} allowed")
        )
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        text = f"{free / 1e9:.1f} GB free in {shared}"
        if free < SHARED:
            text += ": too little for workers (in Docker: --shm-size=1g)"
        findings.append(Finding("shared memory", "problem" if free < SHARED else "ok", text))
    return findings


def cores(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The cores that this process may use: of the machine, by its affinity, and by its container's quota."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min([float(allowed), *_quota(root / "cpu.max"), *_quota_v1(root / "cpu")])


def _quota(path: Path) -> list[float]:
    """Of cgroup v2: "200000 100000" is two cores, "max 100000" is no limit."""
    try:
        quota, period = path.read_text().split()
        return [] if quota == "max" else [int(quota) / int(period)]
    except (OSError, ValueError, ZeroDivisionError):
        return []


def _quota_v1(folder: Path) -> list[float]:
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return [] if quota <= 0 else [quota / period]
    except (OSError, ValueError, ZeroDivisionError):
        return []


def _extras() -> list[Finding]:
    findings = []
    for module, (extra, use) in EXTRAS.items():
        if find_spec(module) is None:
            findings.append(Finding(module, "missing", f'for {use}: pip install "innerworld[{extra}]"'))
        else:
            findings.append(Finding(module, "ok", f"for {use}"))
    return findings


def _self_test() -> Finding:
    began = time.perf_counter()
    try:
        _plan(_learn())
    except Exception as error:  # whatever it is, it is what the user wants to know
        at = [frame for frame in traceback.extract_tb(error.__traceback__) if "innerworld" in frame.filename][-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(
            "self-test",
            "problem",
            f"{reason} (in {at.name}, {Path(at.filename).name} line {at.lineno}): reinstall, else report this",
        )
    return Finding("self-test", "ok", f"a model took a step and planned, {time.perf_counter() - began:.1f} s")


def _learn() -> WorldModel:
    """A small model after one step on noise."""
    spec = Spec({"pixels": (32, 32, 3)}, 2)
    model = models.build("jepa", models.config("jepa", "small", ["channels=4", "rollout=2"]), spec)
    return train(model, _Same(random_clip(spec, b=8, t=2)), TrainConfig(steps=1))


def _plan(model: WorldModel) -> None:
    clip = random_clip(model.spec, b=1, t=1).to(next(model.parameters()).device)
    agent = Agent(model, ICEM(horizon=4, samples=16, elites=4, rounds=2))
    agent.begin(clip.at(0), clip.at(1))
    if not torch.isfinite(agent.act(clip.at(0))).all():
        raise ArithmeticError("the planned action is not finite")


DOCTOR = Verb(DoctorFlags, _doctor)
