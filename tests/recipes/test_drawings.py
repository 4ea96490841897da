"""What is drawn is judged by default and shown, of every family that decodes; what does not draw is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerworld.cli import main
from innerworld.data import About, Store, Uniform, collect
from innerworld.envs.paddle import PaddleConfig, PaddleVector
from innerworld.errors import UserError
from innerworld.evaluate import generation
from innerworld.recipes.drawings import drawn_sections
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.single import evaluate_run
from innerworld.recipes.two_rooms import Control
from innerworld.training import TrainConfig
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3), "state": (6,)}, 3, discrete=True)
RSSM = {"image_size": 16, "deter": 16, "hidden": 16, "stoch": 4, "classes": 4, "depth": 2, "units": 16, "layers": 1}
TINY = {
    "world_models": {"z": 4, "hidden": 8, "mixtures": 2, "units": 8, "image": "strided", "image_size": 16, "depth": 2},
    "rssm": RSSM,
    "sequence": {
        "image_size": 16, "image": "strided", "depth": 2, "mults": (1, 2), "units": 16, "stoch": 4,
        "backbone": {"dim": 16, "heads": 2, "mlp": 16, "window": 4},
    },
    "diffusion": {
        "image_size": 16, "history": 2, "steer": 8, "channels": (8, 16), "depths": (1, 1), "reward": 0, "continues": 0,
    },
    "dreamer": {"world": RSSM, "actor_critic": {"horizon": 3}},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paddle") / "data"
    store = Store.create(path, SPEC, About(env="paddle", policy="uniform"))
    collect(PaddleVector(20, PaddleConfig(size=16, steps=20)), Uniform(SPEC), 20, store)
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CLIPS", (4,))


def run(family: str, data: Path, folder: Path, sensors: tuple[str, ...] = ("pixels",)) -> dict[str, float]:
    """Teach one for two steps and judge it; its numbers."""
    train = TrainConfig(steps=2, warmup=1, check_every=2, save_every=2, device="cpu")
    lesson = Lesson(
        family=family, data=str(data), sensors=sensors, held_out=0.2, batch=4, length=4, train=train,
        model=TINY.get(family, {}) if "pixels" in sensors else {},
    )  # fmt: skip
    teach(lesson, folder, quiet=True)
    return evaluate_run(folder, None, Control(), 0, quiet=True, latents=False)["results"][family]


@pytest.mark.parametrize("family", sorted(TINY))
def test_every_family_that_decodes_is_judged_by_default(family: str, data: Path, tmp_path: Path) -> None:
    found = run(family, data, tmp_path / "run")
    named = {"psnr_1", "psnr_10", "psnr_still_10", "psnr_codec", "ssim_1", "delta_psnr_4", "shuffled_loss_ratio"}
    named |= {"readback", "readback_random", "readback_real", "frechet_inverse", "return_error", "frames_per_s"}
    assert named <= found.keys()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "What it draws" in page and "ΔPSNR at step 4" in page and "imagined, random actions" in page
    assert json.loads((tmp_path / "run" / "results.json").read_text())["results"][family] == found


def test_how_it_draws_may_differ_from_how_it_was_taught(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    taught = run("diffusion", data, folder)
    told = ["evaluate", str(folder), "--no-latents", "--quiet", "model.steps=1"]
    assert main(told) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["run"]["changes"] == ["steps=1"]
    assert results["results"]["diffusion"]["psnr_1"] != taught["psnr_1"]
    with pytest.raises(UserError, match="of a taught diffusion 'history' stays as it is"):
        evaluate_run(folder, None, Control(), 0, quiet=True, changes=["history=1"])


def test_nobody_is_judged_by_pictures_that_it_does_not_draw(data: Path, tmp_path: Path) -> None:
    found = run("rssm", data, tmp_path / "run", ("state",))
    assert "energy_ratio_1" in found and "psnr_1" not in found
    assert "What it draws" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert drawn_sections({}) == []


def test_it_can_be_left_out(data: Path, tmp_path: Path) -> None:
    run("world_models", data, tmp_path / "run")
    plain = evaluate_run(tmp_path / "run", None, Control(), 0, quiet=True, latents=False, drawings=False)
    assert "psnr_1" not in plain["results"]["world_models"] and "pixel_ratio_1" in plain["results"]["world_models"]
