"""`innerworld doctor`: what is here, what is missing and how to get it, and one second of proof that it works."""

from __future__ import annotations

import platform
import shutil
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
from innerworld.plan import ICEM
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig, choose_device, train
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

PACKAGES = ("torch", "numpy", "gymnasium", "pydantic", "safetensors", "tyro", "rich")
EXTRAS = {  # module: (the extra that brings it, what it is for)
    "numcodecs": ("data", "import of the Push-T demonstrations"),
    "gym_pusht": ("pusht", "the world pusht"),
    "pygame": ("envs", "pictures of Gymnasium's classic control"),
}
ROOM = 5e9  # bytes: a store of pictures and a few runs


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
    findings = [*_versions(), *_devices(), _disk(), *_extras(), test]

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
    threads = torch.get_num_threads()
    return [Finding("device", "ok", text), Finding("threads", "ok", f"{threads}; train.threads=N changes it")]


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    if free < ROOM:
        return Finding("disk", "problem", f"{free / 1e9:.1f} GB free here: make room, or write elsewhere with --out")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free here")


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
