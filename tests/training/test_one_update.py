"""Two processes with DDP compute the same SIGReg and make the same update as one process with the same global batch.

In float64, so that what is left of a difference is not rounding. This file is also the script that the processes run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from innerworld.learns import Learns
from innerworld.log import JsonLines, silent
from innerworld.models.eyes import BorrowConfig
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.vjepa2_ac import VJEPA2AC, VJEPA2ACConfig
from innerworld.nn.vision import ViTConfig
from innerworld.perception.lejepa import LeJEPA, LeJEPAConfig
from innerworld.team import join, rank
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3)}, action=2)
TRAIN = TrainConfig(steps=2, lr=1e-2, weight_decay=0.1, log_every=1, device="cpu", threads=1)
WORLD = JEPAConfig(
    image_size=16, channels=4, latent=8, hidden=16, slices=16, projector=12, sigreg=0.5, std=1.0, cov=1.0
)
EYES = LeJEPAConfig(
    vit=ViTConfig(dim=24, depth=1, heads=2, mlp=32, patch=4, positions="table", table=(2, 2)),
    projector=(32, 16, 8),
    slices=16,
    weight=0.5,
)
ROBOT = VJEPA2ACConfig(
    eyes=BorrowConfig(family="vjepa2", preset="tiny"), dim=24, depth=1, heads=2, mlp=32, standardise=True
)
KINDS = ("world model", "eyes", "robot")
LIMIT = 1e-6  # of issue and paper alike; what is found is far below


class Windows(LeJEPA):
    """Its views are fixed windows: random ones would be others in each process, as they are of each frame."""

    def _views(self, clip: Clip) -> list[Tensor]:
        x = clip.obs["pixels"].flatten(0, 1).double().permute(0, 3, 1, 2) / 255
        large = torch.stack([x[..., :12, :12], x[..., 4:, 4:]])  # v b c y x
        return [large, torch.stack([x[..., i : i + 8, 8 - i : 16 - i] for i in (0, 3, 8)])]


class Noise:
    """The same 8 clips for whoever asks; each process takes its rows."""

    def batch(self, step: int) -> Clip:
        rng = torch.Generator().manual_seed(step)
        pixels = torch.randint(0, 256, (8, 4, 16, 16, 3), dtype=torch.uint8, generator=rng)
        action, arm = torch.rand(8, 3, 2, generator=rng), torch.randn(8, 4, 2, generator=rng)
        return Clip({"pixels": pixels, "arm": arm}, action, torch.zeros(8, 3), torch.zeros(8, 3).bool())


def made(kind: str) -> Learns:
    if kind == "robot":
        return VJEPA2AC(ROBOT, Spec({**SPEC.obs, "arm": (2,)}, action=2))
    return JEPA(WORLD, SPEC) if kind == "world model" else Windows(EYES, SPEC)


def learn(kind: str, folder: Path) -> None:
    """Leaves the log, and the weights before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = made(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if rank():
        train(model, Noise(), TRAIN, None, silent)
        return
    with JsonLines(folder / "log.jsonl") as log:
        train(model, Noise(), TRAIN, None, log)
    save_file(before, folder / "before.safetensors")
    save_file(model.state_dict(), folder / "after.safetensors")


@pytest.mark.slow
def test_two_processes_have_one_sigreg_and_make_one_update(tmp_path: Path, together: Callable[..., str]) -> None:
    """A world model, eyes, and what two know of a robot's numbers: all in the same processes, which begin slowly."""
    for processes in (1, 2):
        together(Path(__file__), tmp_path / str(processes), processes=processes)
    for kind in KINDS:
        rows, updates = zip(*[found(tmp_path / str(processes) / kind) for processes in (1, 2)], strict=True)
        for one, two in zip(*rows, strict=True):
            for name in ("loss",) if kind == "robot" else ("sigreg", "loss", "grad_norm"):
                assert one[name] == pytest.approx(two[name], abs=LIMIT, rel=LIMIT), (kind, name)
            assert kind == "robot" or one["sigreg"] > 0.01
        for name, update in updates[0].items():
            assert (update - updates[1][name]).abs().max() <= LIMIT, (kind, name)
        if kind == "robot":
            assert updates[0]["robot.state_scale.count"] == 2 * 8 * 3
        else:
            least = min(update.abs().max() for name, update in updates[0].items() if name.endswith("weight"))
            assert least > 1e-3, (kind, "too little")


def found(folder: Path) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The log of a run and its updates."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    before, after = (load_file(folder / f"{name}.safetensors") for name in ("before", "after"))
    return rows, {name: after[name] - before[name] for name in after}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # what the library wants in float32
    with join("cpu"):
        for each in KINDS:
            learn(each, Path(sys.argv[1]) / each)
