"""The main job, with everything tiny: end to end, again, interrupted, and with a single model."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerworld import checkpoint
from innerworld.config import override
from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate import generation
from innerworld.recipes.demo import demo
from innerworld.recipes.single import evaluate_run, plan_run
from innerworld.recipes.stages import gather
from innerworld.recipes.two_rooms import Control, Run, two_rooms
from innerworld.training import Interrupted
from innerworld.training.learner import Learner

JEPA = {"image_size": 16, "channels": 2, "latent": 8, "hidden": 16, "slices": 16}
RSSM = {"image_size": 16, "deter": 16, "hidden": 16, "stoch": 4, "classes": 4, "depth": 2, "units": 16, "layers": 1}
MEASURED = ("cpu_s_per_episode", "plan_ms", "frames_per_s")  # what a clock says differs from time to time


def tiny(**other: Any) -> Run:
    values = two_rooms().model_dump() | {"episodes": 40, "worlds": 20, "held_out": 0.2, "size": 32}
    for name, model in (("jepa", JEPA), ("rssm", RSSM)):
        school = values["schools"][name]
        school |= {"model": school["model"] | model, "batch": 4, "length": 4, "goals": None, "agent": None}
        school["train"] |= {"steps": 6, "warmup": 2, "log_every": 2, "check_every": 3, "save_every": 2}
    values["control"] |= {"episodes": 4, "budget": 4, "rounds_again": 1}
    values["control"]["planner"] |= {"horizon": 4, "samples": 16, "rounds": 2, "elites": 4, "populations": 1}
    return Run.model_validate(values | other)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """Clips of which the drawings are judged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "CLIPS", (4,))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    return folder, demo(tiny(), folder, quiet=True)


def comparable(results: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {who: {key: x for key, x in found.items() if key not in MEASURED} for who, found in results.items()}


def test_everybody_is_judged_on_the_same_tasks(done: tuple[Path, dict]) -> None:
    folder, made = done
    results = made["results"]
    assert set(results) == {"jepa", "rssm", "oracle", "uniform", "smooth"} and not made["untried"]
    for found in results.values():
        assert found["episodes"] == 4 and 0 <= found["success_rate"] <= 1 and found["steps_mean"] <= 4
        assert all(math.isfinite(value) for value in found.values())
    assert {"energy_ratio_1", "probe_r2", "position_error_8"} <= set(results["jepa"])
    for drawn in ("pixel_ratio_1", "psnr_30", "delta_psnr_4", "readback_r2", "return_error", "frames_per_s"):
        assert drawn in results["rssm"] and drawn not in results["jepa"]
    assert json.loads((folder / "results.json").read_text())["results"] == results


def test_the_report_stands_alone(done: tuple[Path, dict]) -> None:
    folder, made = done
    assert made["report"] == str(folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "jepa" in text and "rssm" in text and "oracle" in text and "innerworld demo" in text
    assert 'src="http' not in text and '<link rel="stylesheet"' not in text


@pytest.mark.slow
def test_again_in_the_same_folder_gives_the_same(done: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is collected or learnt anew."""
    folder, made = done
    before = len(Store.open(folder / "data"))
    monkeypatch.setattr(Learner, "apply", None)
    again = demo(tiny(), folder, quiet=True)
    assert comparable(again["results"]) == comparable(made["results"])
    assert len(Store.open(folder / "data")) == before == 40


@pytest.mark.parametrize(
    ("word", "key"),
    [("seed=1", "seed"), ("episodes=41", "episodes"), ("control.budget=5", "control.budget")],
)
def test_another_run_in_the_same_folder_is_refused_by_name(word: str, key: str, done: tuple[Path, dict]) -> None:
    with pytest.raises(UserError, match=rf"begun with {key}=\w+, not \w+"):
        demo(override(tiny(), [word]), done[0], quiet=True)


def test_another_school_is_refused(done: tuple[Path, dict]) -> None:
    schools = {"jepa": tiny().schools["jepa"]}
    with pytest.raises(UserError, match="begun with schools"):
        demo(tiny(schools=schools), done[0], quiet=True)


@pytest.mark.slow
def test_interrupted_while_teaching_it_ends_in_the_same_place(
    done: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = done
    plain = Clips.rows

    def rows(self: Clips, step: int, *part: int) -> Any:  # called by the thread that reads ahead
        if step == 3:
            monkeypatch.setattr(Clips, "rows", plain)
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, step, *part)

    monkeypatch.setattr(Clips, "rows", rows)
    with pytest.raises(Interrupted):
        demo(tiny(), tmp_path / "run", quiet=True)
    torch.manual_seed(99)
    again = demo(tiny(), tmp_path / "run", quiet=True)
    assert comparable(again["results"]) == comparable(made["results"])
    for name in ("jepa", "rssm"):
        one, two = (checkpoint.load(path / name).state_dict() for path in (folder, tmp_path / "run"))
        assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_collection_that_goes_on_repeats_no_episode(tmp_path: Path) -> None:
    gather(tiny(episodes=25), tmp_path, quiet=True)
    store = gather(tiny(), tmp_path, quiet=True)
    assert len(store) == 40
    begins = {tuple(store.episode(i).obs["state"][0, 0].tolist()) for i in range(40)}
    moves = {tuple(store.episode(i).action[0, :3].flatten().tolist()) for i in range(40)}
    assert len(begins) == 40 and len(moves) == 40


@pytest.mark.parametrize("family", ["jepa", pytest.param("rssm", marks=pytest.mark.slow)])
def test_a_taught_model_is_judged_alone_as_in_company(family: str, done: tuple[Path, dict]) -> None:
    folder, made = done
    control = tiny().control
    alone = evaluate_run(folder / family, None, control, seed=0, quiet=True)["results"]
    assert set(alone) == {family, "oracle", "uniform", "smooth"}
    assert comparable(alone)["oracle"] == comparable(made["results"])["oracle"]
    assert (folder / family / "report.html").exists() and (folder / family / "results.json").exists()


def test_a_taught_model_shows_its_plans(done: tuple[Path, dict]) -> None:
    folder, _ = done
    made = plan_run(folder / "jepa", None, tiny().control, seed=0, quiet=True)
    assert (folder / "jepa" / "plan.html").exists() and len(made["episodes"]) == 4
    assert all(np.linalg.norm(np.subtract(row["start"], row["goal"])) > 0 for row in made["episodes"])


def test_a_log_without_a_world_is_judged_without_goals(done: tuple[Path, dict], tmp_path: Path) -> None:
    folder, _ = done
    store = Store.open(folder / "data")
    nameless = Store.create(tmp_path / "data", store.spec)
    for i in range(len(store)):
        nameless.add(store.episode(i))
    made = evaluate_run(folder / "jepa", tmp_path / "data", Control(), seed=0, quiet=True)
    assert set(made["results"]) == {"jepa"} and "names no environment" in made["untried"]
