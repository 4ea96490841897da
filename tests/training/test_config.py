"""The learning rate over a run, by either schedule, and settings that do not go together."""

from __future__ import annotations

from typing import Any

import pytest

from innerworld.config import build, override
from innerworld.errors import UserError
from innerworld.training import FREE_ON_RESUME, TrainConfig, learning_rate

TRAPEZE = {"steps": 252, "warmup": 12, "schedule": "cooldown", "cooldown": 12, "lr": 5.25e-4}


def rates(**settings: Any) -> list[float]:
    config = build(TrainConfig, TRAPEZE | {"final_lr_fraction": 0.0} | settings)
    return [learning_rate(step, config) for step in range(config.steps)]


def test_cooldown_is_a_rise_a_plateau_and_a_fall() -> None:
    """V-JEPA 2's table 9, a thousandth as long."""
    found = rates(first_lr_fraction=1e-4 / 5.25e-4, final_lr_fraction=1e-6 / 5.25e-4)
    assert found[0] == pytest.approx(1e-4 + 4.25e-4 / 12)  # one step up, so that it is not lost
    assert found[5] == pytest.approx(1e-4 + 4.25e-4 / 2)
    assert set(found[11:240]) == {5.25e-4}
    assert found[245] == pytest.approx((5.25e-4 + 1e-6) / 2)
    assert found[251] == pytest.approx(1e-6)


def test_no_step_is_lost_at_either_end() -> None:
    found = rates(final_lr_fraction=0.5)
    assert min(found) == found[0] > 0 and found[-1] == pytest.approx(0.5 * 5.25e-4)
    assert rates(warmup=0)[0] == 5.25e-4


def test_a_longer_run_cools_down_later() -> None:
    assert rates(steps=300)[:288] == [*rates()[:240], *[5.25e-4] * 48]
    assert {"steps", "cooldown"} <= set(FREE_ON_RESUME)


def test_a_cosine_may_begin_above_zero_too() -> None:
    config = TrainConfig(steps=10, lr=1.0, warmup=4, first_lr_fraction=0.2, final_lr_fraction=0.0)
    found = [learning_rate(step, config) for step in range(10)]
    assert found[:4] == pytest.approx([0.4, 0.6, 0.8, 1.0]) and found[-1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cooldown=5"], "train.cooldown=5 is for train.schedule=cooldown"),
        (["schedule=cooldown", "final_lr_fraction=0"], "needs train.cooldown=STEPS"),
        (["schedule=cooldown", "cooldown=5"], "final_lr_fraction below 1"),
        (["schedule=cooldown", "cooldown=5", "final_lr_fraction=0", "warmup=6", "steps=10"], "do not fit into"),
        (["schedule=wsd"], "schedule: input should be 'cosine' or 'cooldown'"),
    ],
)
def test_schedules_that_are_not_whole_are_refused_in_a_line(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        override(TrainConfig(), words)
    assert "\n" not in str(caught.value)
