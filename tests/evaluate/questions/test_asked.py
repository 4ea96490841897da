"""Questions of cause, calibration, robustness and cost: asked of every kind of model, or told why they do not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from innerworld import families
from innerworld.agent import Agent
from innerworld.data import POLICIES, About, Store, collect
from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector
from innerworld.envs.unseen import unseen
from innerworld.errors import UserError
from innerworld.evaluate import expense
from innerworld.evaluate.exam import Answer, Exam, ExamConfig, Lab
from innerworld.evaluate.questions.calibration import CALIBRATION
from innerworld.evaluate.questions.cause import CAUSE
from innerworld.evaluate.questions.cost import COST
from innerworld.evaluate.questions.probing import PROBING
from innerworld.evaluate.questions.robustness import ROBUSTNESS
from innerworld.plan import RandomShooting
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (32, 32, 3), "state": (2,), "layout": (4,)}, 2)
SMALL = TwoRoomsConfig.of_size(32)
RSSM = {"deter": 32, "hidden": 16, "stoch": 4, "classes": 4, "depth": 4, "units": 16, "layers": 1, "mults": (1, 2)}
TINY: dict[str, dict[str, Any]] = {
    "jepa": {"channels": 2, "latent": 8, "hidden": 16, "slices": 8, "image_size": 16},
    "rssm": RSSM | {"image": "strided", "image_size": 8},
    "world_models": {"image": "strided", "z": 4, "hidden": 8, "units": 8, "bins": 11, "image_size": 8, "stages": 1},
    "sequence": {"stoch": 4, "units": 16, "posterior_units": 16, "prior_units": 16, "depth": 4, "mults": (1, 2)}
    | {"image": "strided", "image_size": 8},
}
Sit = Callable[..., Exam]


@pytest.fixture(autouse=True)
def once_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expense, "MOST", 1)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("rooms") / "data", SPEC, About(env="two_rooms", policy="smooth"))
    collect(TwoRoomsVector(12, SMALL), POLICIES["smooth"](SPEC), 12, store, 0)
    return store


@pytest.fixture(scope="module")
def sit(rooms: Store) -> Sit:
    """Makes the exam of a tiny model of a family."""

    def exam(family: str, store: Store = rooms, **lab: Any) -> Exam:
        torch.manual_seed(0)
        model = families.build(family, TINY[family], store.spec.only("pixels"))
        assert isinstance(model, WorldModel)
        none: Any = None
        made = Lab(
            untaught=lambda: model,
            agent=lambda its: Agent(its, RandomShooting(horizon=2, samples=4)),
            goal_worlds=none,
            tasks=none,
            oracle=none,
            worlds=lambda n: TwoRoomsVector(n, SMALL),
            once=lambda name, find: find(),
        )
        config = ExamConfig(clips=16, episodes=6)
        return Exam(model, store, np.arange(8), np.arange(8, 12), 6, replace(made, **lab), 1, 0, config)

    return exam


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_every_question_has_an_answer_of_every_family(sit: Sit, family: str) -> None:
    varied = {name: make for name, make in unseen("two_rooms", 32).items() if name in ("door", "agent_color")}
    exam = sit(family, varied=varied)
    for question in (CAUSE, CALIBRATION, ROBUSTNESS, COST, PROBING):
        answer = question.ask(exam)
        assert not answer.skipped and question.headline in answer.metrics, question.name
        assert {*question.beside, *question.bounds} <= answer.metrics.keys()
        assert all(isinstance(value, float) for value in answer.metrics.values()), question.name
        assert np.isfinite(answer.metrics[question.headline]), question.name
        assert all(panel.dtype == np.uint8 and panel.ndim == 4 for film in answer.films.values() for _, panel in film)
        assert all(curve.points for curve in answer.curves.values())
        if question is not COST:
            np.testing.assert_equal(question.ask(exam).metrics, answer.metrics)


def test_causes_are_asked_of_changed_actions_and_films_of_who_draws(sit: Sit) -> None:
    silent, drawing = CAUSE.ask(sit("jepa")), CAUSE.ask(sit("rssm"))
    assert silent.metrics["before"] == drawing.metrics["before"] == 0
    assert not silent.films and [name for name, _ in next(iter(drawing.films.values()))] == [
        "true, own action",
        "imagined, own action",
        "true, another",
        "imagined, another",
    ]


def test_who_is_always_sure_is_told_so(sit: Sit) -> None:
    sure, drawing = CALIBRATION.ask(sit("jepa")).metrics, CALIBRATION.ask(sit("rssm")).metrics
    assert (sure["deterministic"], sure["miscalibration"]) == (1, 1) == (sure["crps_ratio"], 1)
    assert drawing["deterministic"] == 0 < drawing["spread_skill"] and "pixels_crps_ratio_1" in drawing


def test_what_varies_is_named(sit: Sit) -> None:
    found = ROBUSTNESS.ask(sit("jepa", varied={"door": unseen("two_rooms", 32)["door"]}))
    assert found.metrics["factors"] == 6 and "state_worse_door" in found.metrics
    (film,) = found.films.values()
    assert [name for name, _ in film] == ["hue", "brighter", "darker", "noise", "patch", "door"]


def test_why_a_question_does_not_apply_is_told(sit: Sit, rooms: Store, tmp_path) -> None:
    spec = replace(SPEC.only("pixels"), action=0)
    video = Store.create(tmp_path / "video", spec)
    blind = Store.create(tmp_path / "blind", SPEC.only("pixels"))
    short = Store.create(tmp_path / "short", SPEC)
    for i in range(12):
        clip = rooms.episode(i)
        seen = {"pixels": clip.obs["pixels"]}
        video.add(replace(clip, obs=seen, action=clip.action[..., :0]))
        blind.add(replace(clip, obs=seen))
        short.add(clip.cut(0, 3))
    assert CAUSE.ask(sit("jepa", video)) == Answer({}, "nobody acts in this data, so that no action can be changed")
    assert "no `state`" in CAUSE.ask(sit("jepa", blind)).skipped
    assert "no held-out episode has the 6 steps" in CAUSE.ask(sit("jepa", short)).skipped
    assert "tells nothing that could be held" in CALIBRATION.ask(sit("jepa", blind)).skipped
    assert ROBUSTNESS.ask(sit("jepa", blind)).metrics.keys() >= {"energy_worse", "varied_ratio"}

    def nowhere(n: int) -> Any:
        raise UserError("the data is a log of no world that could be made")

    assert CAUSE.ask(sit("jepa", worlds=nowhere)).skipped == "the data is a log of no world that could be made"
    exam = sit("jepa")
    seeing_state = replace(exam, model=families.build("jepa", TINY["jepa"], SPEC.only("state")))
    assert "sees no pictures" in ROBUSTNESS.ask(seeing_state).skipped
    assert "plan_mflops" not in COST.ask(sit("jepa", agent=nowhere)).metrics
