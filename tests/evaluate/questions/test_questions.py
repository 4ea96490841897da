"""What the questions say of one who knows everything, and of one who knows nothing; and where they do not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerworld import models
from innerworld.data import Store
from innerworld.envs.named import ENVS
from innerworld.errors import UserError
from innerworld.evaluate.exam import Exam
from innerworld.evaluate.inverse import InverseConfig
from innerworld.evaluate.questions import QUESTIONS, controllability
from innerworld.evaluate.questions.collapse import COLLAPSE
from innerworld.evaluate.questions.consistency import CONSISTENCY
from innerworld.evaluate.questions.control import CONTROL
from innerworld.evaluate.questions.controllability import CONTROLLABILITY
from innerworld.evaluate.questions.prediction import PREDICTION, foreseen
from innerworld.evaluate.questions.probing import PROBING
from innerworld.evaluate.questions.surprise import DIMENSIONS, SURPRISE
from innerworld.world import WorldModel

Ask = Callable[..., Exam]


def stuck(model: WorldModel) -> WorldModel:
    """The same eyes, and the belief that nothing ever happens."""
    found = models.Oracle(models.Oracle.Config(), model.spec, lambda obs, action: obs)
    found.device = torch.nn.Parameter(torch.zeros(1))
    return found


def test_who_knows_everything_foresees_everything(exam: Ask) -> None:
    answer = PREDICTION.ask(exam())
    assert answer.metrics["state_r2"] == pytest.approx(1, abs=1e-3)
    assert answer.metrics["energy_ratio_4"] < 1e-3
    curve = answer.curves["True state"]
    assert [x for x, _ in curve.points] == [1, 2, 4] and curve.points[2][1] > curve.others["standing still"][2][1]


def test_who_stands_still_is_no_better_than_standing_still(exam: Ask, knowing: WorldModel) -> None:
    metrics = PREDICTION.ask(exam(stuck(knowing))).metrics
    assert metrics["energy_ratio_4"] == pytest.approx(1)
    for h in (1, 2, 4):
        assert metrics[f"state_r2_{h}"] == pytest.approx(metrics[f"state_r2_still_{h}"], abs=0.05)


def test_a_linear_model_is_told_the_state_and_the_actions(exam: Ask) -> None:
    metrics = PREDICTION.ask(exam()).metrics
    assert (
        metrics["state_r2_still_4"] < metrics["state_r2_linear_4"] < metrics["state_r2_4"]
    )  # of walls it knows nothing


class Late(models.Oracle):
    """Knows the world only after two looks: before, it takes every place for the corner."""

    def encode(self, obs, state=None, action=None):
        found = super().encode(obs)
        seen = torch.zeros(len(found["state"]), 1) if state is None else state["seen"] + 1
        return found | {"state": torch.where(seen < 2, torch.zeros_like(found["state"]), found["state"]), "seen": seen}

    def predict(self, state, action, rng=None):
        return super().predict({name: state[name] for name in self.spec.obs}, action, rng)

    def features(self, state):
        return super().features({name: state[name] for name in self.spec.obs})

    def energy(self, state, goal):
        return super().energy({name: state[name] for name in self.spec.obs}, goal)


def test_with_context_it_watches_before_it_is_asked(exam: Ask, knowing: models.Oracle) -> None:
    late = Late(knowing.config, knowing.spec, knowing.dynamics)
    late.device = torch.nn.Parameter(torch.zeros(1))
    asked = exam(late)
    told = {
        c: PREDICTION.ask(replace(asked, config=asked.config.model_copy(update={"context": c}))).metrics
        for c in (0, 1, 2)
    }
    assert told[2]["state_r2_1"] > 0.6 > 0.2 > told[1]["state_r2_1"]  # the probe saw the corner as well
    assert told[2]["state_r2_linear_4"] > told[2]["state_r2_still_4"]


def test_a_number_that_never_changes_is_left_out(exam: Ask, knowing: WorldModel) -> None:
    clip = exam().clip(4)
    still = torch.cat([clip.obs["state"], torch.ones_like(clip.obs["state"][..., :1])], dim=-1)
    weights = torch.eye(7, 3).double()  # of state and layout
    one = stuck(knowing)
    found = foreseen(one, replace(clip, obs={**clip.obs, "state": still}), weights, torch.zeros(3).double(), [1])
    assert 0 < found["state_r2"] <= 1


def test_who_sees_the_state_knows_it(exam: Ask) -> None:
    assert PROBING.ask(exam()).metrics["probe_r2"] == pytest.approx(1, abs=1e-3)


def test_features_of_the_state_use_its_directions(exam: Ask) -> None:
    metrics = COLLAPSE.ask(exam()).metrics
    assert metrics["dimensions"] == 6 and 1 < metrics["effective_rank"] <= 3.01


def test_wrong_actions_cost_who_follows_them_and_nobody_else(exam: Ask, knowing: WorldModel) -> None:
    follows = CONTROLLABILITY.ask(exam()).metrics["shuffled_energy_ratio"]
    ignores = CONTROLLABILITY.ask(exam(stuck(knowing))).metrics["shuffled_energy_ratio"]
    assert follows > 100 and ignores == 1


@pytest.mark.slow
def test_who_knows_the_dynamics_gets_there_as_the_dynamics_do(exam: Ask) -> None:
    metrics = CONTROL.ask(exam()).metrics
    assert metrics["success_rate"] == metrics["success_rate_oracle"] > metrics["success_rate_random"]


@pytest.mark.slow
def test_one_that_draws_is_asked_of_its_pictures(exam: Ask, rooms: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllability, "READER", InverseConfig(transitions=16, steps=2, batch=4))
    config = models.config("rssm", None, ["deter=16", "hidden=8", "stoch=2", "classes=4", "blocks=2", "depth=2"])
    one = exam(models.build("rssm", config, rooms.spec.only("pixels")).eval())
    assert {"delta_psnr_4", "shuffled_energy_ratio", "readback_r2"} <= CONTROLLABILITY.ask(one).metrics.keys()
    answer = CONSISTENCY.ask(one)
    assert answer.metrics["leave_and_return"] == max(answer.metrics["turn_error"], answer.metrics["return_error"])


def test_where_a_question_does_not_apply_it_says_why(exam: Ask, store_elsewhere: Path) -> None:
    log = Store.open(store_elsewhere)
    assert "draws no pictures" in CONSISTENCY.ask(exam()).skipped
    assert "films of physics" in SURPRISE.ask(exam()).skipped
    assert "no `state`" in PROBING.ask(replace(exam(), store=log)).skipped
    nowhere = replace(exam().lab, goal_worlds=_no_goals)
    assert CONTROL.ask(replace(exam(), lab=nowhere)).skipped == "no goals here"
    untold = replace(exam().lab, tasks=_no_goals)  # worlds with goals, but none can be drawn of this data
    assert CONTROL.ask(replace(exam(), lab=untold)).skipped == "no goals here"


def test_the_worlds_whose_films_surprise_are_worlds_that_can_be_named() -> None:
    """A store tells its world by the name that it was collected with."""
    assert set(DIMENSIONS) <= set(ENVS)


def test_every_question_is_named_as_it_is_asked() -> None:
    for name, question in QUESTIONS.items():
        assert question.name == name and question.asks.endswith("?") and question.headline and question.unit


def _no_goals(n: int) -> None:
    raise UserError("no goals here")
