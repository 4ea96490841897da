"""A habit says what it was taught, knows where nobody taught it, and comes back from the disk bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from innerworld import saved
from innerworld.config import build
from innerworld.errors import UserError
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.policy.lessons import Advice, DrillConfig, drill
from innerworld.types import Spec

NOTE = "habit.json"
SPEC = Spec({"place": (2,)}, 2)
CHOICES = Spec({"place": (2,)}, 4, discrete=True)
SMALL = HabitConfig(actor=ActorConfig(units=32, layers=2, outscale=1.0), heads=3)
DRILL = DrillConfig(steps=100, batch=64, lr=1e-2, warmup=10)


def places(n: int, seed: int) -> Tensor:
    return torch.rand(n, 2, generator=Generator().manual_seed(seed)) * 2 - 1


def towards(here: Tensor, there: Tensor) -> Tensor:
    return (3 * (there - here)).clamp(-1, 1)


def choice(here: Tensor, there: Tensor) -> Tensor:
    """Right, left, up or down, along the longer way."""
    way = there - here
    sides = torch.stack([way[:, 0], -way[:, 0], way[:, 1], -way[:, 1]], dim=-1)
    return torch.nn.functional.one_hot(sides.argmax(dim=-1), 4).float()


def made(spec: Spec = SPEC, config: HabitConfig = SMALL) -> Habit:
    torch.manual_seed(0)
    return Habit(config, 2, spec)


@pytest.mark.parametrize("loss", ["nll", "squared", "absolute"])
def test_it_does_what_it_was_taught(loss: str) -> None:
    config = build(HabitConfig, SMALL.model_dump() | {"loss": loss})
    habit, here, there = made(config=config), places(2000, 1), places(2000, 2)
    told = drill(habit, Advice(here, there, towards(here, there)), DRILL)
    assert told["error"] < 0.3 and told["lessons"] == 2000
    new, goal = places(200, 3), places(200, 4)
    assert (habit.act(new, goal) - towards(new, goal)).norm(dim=-1).mean() < 0.3


def test_choices_are_one_hot_and_learnt_from_soft_labels() -> None:
    habit, here, there = made(CHOICES), places(2000, 1), places(2000, 2)
    soft = 0.7 * choice(here, there) + 0.075
    assert drill(habit, Advice(here, there, soft), DRILL)["error"] < 0.15
    action = habit.act(places(50, 3), places(50, 4))
    assert action.shape == (50, 4) and bool((action.sum(-1) == 1).all()) and bool((action.amax(-1) == 1).all())


def test_its_heads_part_where_nobody_taught_them() -> None:
    habit, here, there = made(), places(2000, 1), places(2000, 2)
    drill(habit, Advice(here, there, towards(here, there)), DRILL)
    known = habit.advise(places(200, 3), places(200, 4))[1]
    strange = habit.advise(20 + places(200, 3), -20 + 9 * places(200, 4))[1]
    assert strange.median() > 5 * known.median()


def test_a_single_head_is_never_in_doubt() -> None:
    habit = made(config=SMALL.model_copy(update={"heads": 1}))
    assert not bool(habit.advise(places(5, 1), places(5, 2))[1].any())


def test_features_are_standardised_by_what_it_was_shown() -> None:
    habit, here = made(), 100 + 50 * places(500, 1)
    here[:, 1] = 7.0  # tells nothing
    habit.fit(here)
    shown = (here - habit.centre) / habit.scale
    torch.testing.assert_close(shown.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert shown[:, 0].std() == pytest.approx(1, abs=0.01) and shown.isfinite().all()


def test_rows_do_not_see_each_other() -> None:
    habit, here, there = made(), places(8, 1), places(8, 2)
    alone = torch.cat([habit.act(here[i : i + 1], there[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(habit.act(here, there), alone)


@pytest.mark.parametrize("spec", [SPEC, CHOICES])
def test_it_comes_back_bit_for_bit(spec: Spec, tmp_path: Path) -> None:
    habit, here, there = made(spec).eval(), places(30, 1), places(30, 2)
    habit.fit(here)
    habit.save(tmp_path / "habit")
    before = torch.get_rng_state()
    again = Habit.load(tmp_path / "habit", spec)
    assert torch.equal(torch.get_rng_state(), before) and not again.training and again.config == habit.config
    for name, value in habit.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    for one, other in zip(habit.advise(here, there), again.advise(here, there), strict=True):
        assert torch.equal(one, other)


def test_saving_again_leaves_one_habit(tmp_path: Path) -> None:
    habit = made()
    habit.save(tmp_path)
    habit.fit(places(50, 1))
    habit.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert bool(Habit.load(tmp_path, SPEC).fitted)


def test_a_writer_that_was_killed_before_the_note_leaves_the_habit_before(tmp_path: Path) -> None:
    habit = made()
    habit.save(tmp_path)
    note = (tmp_path / NOTE).read_bytes()
    old = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    habit.fit(places(50, 1))
    habit.save(tmp_path)
    (tmp_path / NOTE).write_bytes(note)
    for name, blob in old.items():
        (tmp_path / name).write_bytes(blob)
    assert not bool(Habit.load(tmp_path, SPEC).fitted)


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no habit"):
        Habit.load(tmp_path, SPEC)
    made().save(tmp_path)
    with pytest.raises(UserError, match=r"acts by 2 numbers, the model by 4 choices"):
        Habit.load(tmp_path, CHOICES)
    (weights,) = tmp_path.glob("*.safetensors")
    blob = weights.read_bytes()
    weights.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(UserError, match=r"is not what habit\.json says"):
        Habit.load(tmp_path, SPEC)
    weights.unlink()
    with pytest.raises(UserError, match="cannot read"):
        Habit.load(tmp_path, SPEC)
    note = json.loads((tmp_path / NOTE).read_text())
    (tmp_path / NOTE).write_text(json.dumps(note | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Habit.load(tmp_path, SPEC)
    saved.write(tmp_path, "habit", {}, {"width": 2})
    with pytest.raises(UserError, match="does not tell what the habit is like"):
        Habit.load(tmp_path, SPEC)
    (tmp_path / NOTE).write_text("[")
    with pytest.raises(UserError, match="is broken"):
        Habit.load(tmp_path, SPEC)


def test_what_does_not_fit_is_refused() -> None:
    here = places(3, 1)
    with pytest.raises(UserError, match="reads 2 features, these are 5"):
        made().act(torch.zeros(3, 5), here)
    with pytest.raises(UserError, match="pursues goals"):
        made().act(here)
    lone = made(config=SMALL.model_copy(update={"goal": False}))
    assert lone.act(here).shape == (3, 2)
    with pytest.raises(UserError, match="takes no goal"):
        lone.act(here, here)
