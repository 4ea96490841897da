"""Perception: bad sights of every kind, beliefs row by row, surprise that is honest."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.perception.senses import Senses, SensesConfig, Usual
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.nn.sensors import to_uint8
from innerworld.testing.world_model import random_clip
from innerworld.types import Obs, Spec, State, each
from innerworld.world import WorldModel

SPEC = Spec({"place": (2,), "heat": (1,)}, 2)
EYES = Spec({"pixels": (8, 8, 3), "speed": (3,)}, 2)
RSSM_TINY = {"deter": 32, "hidden": 16, "stoch": 4, "classes": 4, "depth": 4, "units": 16, "layers": 1, "mults": (1, 2)}
RSSM_TINY |= {"image": "strided", "image_size": 8}


def walk(state: Obs, action: Tensor) -> Obs:
    return {"place": state["place"] + action, "heat": state["heat"]}


def world() -> Oracle:
    """It knows where an action leads, and sees what it is told."""
    return Oracle(OracleConfig(), SPEC, walk)


def painter() -> RSSM:
    """It decodes all of its sensors."""
    torch.manual_seed(0)
    return RSSM(RSSMConfig.model_validate(RSSM_TINY), EYES).eval()


def dreamless() -> JEPA:
    """It decodes nothing, and remembers what it did."""
    torch.manual_seed(0)
    config = JEPAConfig(
        channels=4, latent=6, hidden=8, predictor="transformer", history=3, depth=1, heads=2, head_dim=4
    )
    return JEPA(config, EYES).eval()


def sight(b: int = 3, place: float = 0.0) -> Obs:
    return {"place": torch.full((b, 2), place), "heat": torch.arange(b)[:, None].float()}


def begun(model: WorldModel, obs: Obs, config: SensesConfig = SensesConfig()) -> Senses:
    senses = Senses(model, config)
    senses.begin(obs)
    return senses


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name].nan_to_num(7), b[name].nan_to_num(7)) for name in a)


@pytest.mark.parametrize("surprise", [True, False])
@pytest.mark.parametrize("build", [painter, dreamless])
def test_whole_sights_are_believed_as_the_model_does_bit_for_bit(build, surprise: bool) -> None:
    model, clip = build(), random_clip(EYES, 3, 4)
    senses = begun(model, clip.at(0), SensesConfig(surprise=surprise))
    with torch.no_grad():
        state = model.encode(clip.at(0))
        for t in range(clip.length):
            senses.look(clip.at(t + 1), clip.action[:, t])
            state = model.encode(clip.at(t + 1), state, clip.action[:, t])
            assert same(senses.state, state) and not senses.blind.any() and not senses.unseen.any()
    assert bool(senses.surprise.isfinite().all()) == surprise


def test_surprise_is_the_energy_between_what_was_expected_and_what_was_seen() -> None:
    senses = begun(world(), sight())
    assert senses.surprise.isnan().all()
    senses.look(sight(place=0.5), torch.full((3, 2), 0.5))
    assert senses.surprise.tolist() == [0, 0, 0]
    seen = sight(place=0.5)
    seen["place"][1] += 2
    senses.look(seen, torch.zeros(3, 2))
    assert senses.surprise.tolist() == [0, 8, 0]


def test_what_was_expected_stands_in_for_a_sensor_that_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    senses = begun(world(), sight())
    for _ in range(2):
        senses.look({"heat": torch.full((3, 1), 9.0)}, torch.full((3, 2), 0.25))
    assert senses.state["place"].tolist() == [[0.5, 0.5]] * 3  # dead reckoning
    assert senses.state["heat"].flatten().tolist() == [9, 9, 9]  # what is seen is believed
    assert senses.blind.all() and not senses.unseen.any()
    assert [record.message for record in caplog.records if "'place'" in record.message] == [
        "sensor 'place' is missing: what the model expects stands in for it (told once)"
    ]


def test_pictures_that_stand_in_are_quantised() -> None:
    model, clip = painter(), random_clip(EYES, 3, 1)
    senses = begun(model, clip.at(0))
    senses.look({"speed": clip.obs["speed"][:, 1]}, clip.action[:, 0])
    with torch.no_grad():
        first = model.encode(clip.at(0))
        picture = to_uint8(model.decode(model.predict(first, clip.action[:, 0]))["pixels"])
        expected = model.encode({"pixels": picture, "speed": clip.obs["speed"][:, 1]}, first, clip.action[:, 0])
    assert same(senses.state, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("build", [painter, dreamless])
def test_rows_that_are_not_finite_do_not_touch_the_others(build, bad: float) -> None:
    model, clip = build(), random_clip(EYES, 4, 2)
    broken, sound = begun(model, clip.at(0)), begun(model, clip.at(0))
    obs = clip.at(1)
    obs["speed"] = obs["speed"].clone()
    obs["speed"][2, 1] = bad
    broken.look(obs, clip.action[:, 0])
    sound.look(clip.at(1), clip.action[:, 0])
    others = torch.tensor([0, 1, 3])
    assert broken.blind.tolist() == [False, False, True, False]
    assert same(each(lambda v: v[others], broken.state), each(lambda v: v[others], sound.state))
    assert all(v.isfinite().all() for v in broken.state.values() if v.is_floating_point())
    assert not same(broken.state, sound.state)
    broken.look(clip.at(2), clip.action[:, 1])
    assert not broken.blind.any() and broken.surprise.isfinite().all()


def test_a_row_whose_missing_sensor_cannot_be_told_is_predicted() -> None:
    model, clip = dreamless(), random_clip(EYES, 3, 1)
    senses = begun(model, clip.at(0))
    obs = clip.at(1)
    obs["speed"] = obs["speed"].clone()
    obs["speed"][0] = torch.nan
    senses.look(obs, clip.action[:, 0])
    with torch.no_grad():
        expected = model.predict(model.encode(clip.at(0)), clip.action[:, 0])
    assert same(each(lambda v: v[:1], senses.state), each(lambda v: v[:1], expected))
    assert senses.unseen.tolist() == [1, 0, 0]
    assert senses.surprise.isnan().tolist() == [True, False, False]  # nothing was seen: nothing can surprise


@pytest.mark.parametrize("build", [painter, dreamless])
def test_a_frame_that_came_too_late_is_predicted(build) -> None:
    model, clip = build(), random_clip(EYES, 2, 3)
    senses = begun(model, clip.at(0))
    with torch.no_grad():
        state = model.encode(clip.at(0))
        for t in range(2):
            senses.look({}, clip.action[:, t])
            state = model.predict(state, clip.action[:, t])
        assert same(senses.state, state) and senses.blind.all() and senses.surprise.isnan().all()
        assert senses.unseen.tolist() == [2, 2]
        senses.look(clip.at(3), clip.action[:, 2])
        assert same(senses.state, model.encode(clip.at(3), state, clip.action[:, 2]))
    assert not senses.blind.any() and senses.unseen.tolist() == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 3),
        torch.zeros(2, 2),
        torch.zeros(3),
        torch.zeros(3, 2, dtype=torch.int64),
        torch.zeros(3, 2, dtype=torch.complex64),
        None,
        "a picture",
    ],
    ids=["width", "worlds", "axes", "integers", "complex", "none", "text"],
)
def test_a_sensor_of_a_wrong_shape_or_kind_is_a_missing_one(wrong, caplog: pytest.LogCaptureFixture) -> None:
    senses, missing = begun(world(), sight()), begun(world(), sight())
    action = torch.full((3, 2), 0.25)
    senses.look({"place": wrong, "heat": torch.ones(3, 1)}, action)
    missing.look({"heat": torch.ones(3, 1)}, action)
    assert same(senses.state, missing.state) and senses.blind.all()
    assert "sensor 'place'" in caplog.text


def test_another_precision_and_more_sensors_are_no_fault() -> None:
    senses = begun(world(), sight())
    senses.look(each(Tensor.double, sight(place=1.0)) | {"smell": torch.full((1,), torch.nan)}, torch.ones(3, 2))
    assert not senses.blind.any() and senses.state["place"].dtype == torch.float32


def test_a_belief_that_was_lost_begins_anew_with_what_is_seen() -> None:
    first = sight()
    first["place"][1] = torch.nan
    senses = begun(world(), first)
    assert senses.blind.tolist() == [False, True, False]
    senses.look({"heat": torch.zeros(3, 1)}, torch.zeros(3, 2))  # nothing to stand in for what was never seen
    assert senses.state["place"][1].isnan().all() and senses.unseen.tolist() == [0, 2, 0]
    senses.look(sight(place=3.0), torch.zeros(3, 2))
    assert senses.state["place"].tolist() == [[3, 3]] * 3 and not senses.blind.any()


def test_a_belief_is_given_up_after_patience() -> None:
    model, clip = dreamless(), random_clip(EYES, 2, 4)
    senses, trusting = begun(model, clip.at(0), SensesConfig(patience=2)), begun(model, clip.at(0))
    for t in range(3):
        assert not senses.lost.any()
        for mind in (senses, trusting):
            mind.look({}, clip.action[:, t])
    assert senses.lost.all() and not trusting.lost.any()
    for mind in (senses, trusting):
        mind.look(clip.at(4), clip.action[:, 3])
    with torch.no_grad():
        assert same(senses.state, model.encode(clip.at(4)))
    assert not same(senses.state, trusting.state) and not senses.lost.any()


def test_unusual_counts_deviations_from_what_the_world_was_like() -> None:
    rng = Generator().manual_seed(0)
    values = torch.rand(2, 60, generator=rng) + 1
    usual = Usual(torch.zeros(2), SensesConfig(settle=4, window=1000))
    told = torch.stack([usual(values[:, t], torch.ones(2, dtype=torch.bool)) for t in range(60)], dim=1)
    assert told[:, :4].isnan().all()
    for t in range(4, 60):
        before = values[:, :t]
        expected = (values[:, t] - before.mean(1)) / before.std(1, correction=0)
        torch.testing.assert_close(told[:, t], expected, rtol=1e-3, atol=1e-3)


def test_what_was_not_seen_teaches_nothing_about_surprise() -> None:
    usual = Usual(torch.zeros(2), SensesConfig(settle=2))
    for value in (1.0, 2.0, 3.0):
        usual(torch.tensor([value, torch.nan]), torch.tensor([True, True]))
        usual(torch.tensor([100.0, 1.0]), torch.tensor([False, False]))
    assert usual.count.tolist() == [3, 0] and usual.mean.tolist() == [2, 0]


def test_an_unusual_event_stands_out() -> None:
    senses, rng = begun(world(), sight()), Generator().manual_seed(0)
    for _ in range(30):
        senses.look(sight(place=0.01 * float(torch.randn((), generator=rng))), torch.zeros(3, 2))
    senses.look(sight(place=1.0), torch.zeros(3, 2))
    assert bool((senses.unusual > 20).all())


@pytest.mark.parametrize("build", [painter, dreamless])
def test_keeping_some_worlds_changes_nothing_for_them(build) -> None:
    model, clip, kept = build(), random_clip(EYES, 4, 8), torch.tensor([3, 1])
    config = SensesConfig(settle=2)
    together, few = begun(model, clip.at(0), config), begun(model, clip.at(0), config)
    for t in range(8):
        obs = clip.at(t + 1)
        if t in (2, 5):
            obs["speed"] = obs["speed"].clone()
            obs["speed"][1] = torch.nan
        together.look(obs, clip.action[:, t])
        if t == 3:
            few.keep(kept)
        rows = kept if t >= 3 else torch.arange(4)
        if t == 3:
            few.look(each(lambda v: v[kept], obs), clip.action[kept, t])
        else:
            few.look(each(lambda v, rows=rows: v[rows], obs), clip.action[rows, t])
        for name in ("surprise", "unusual", "blind", "unseen"):
            a, b = getattr(together, name)[rows], getattr(few, name)
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
    for name, value in few.state.items():
        torch.testing.assert_close(together.state[name][kept], value, rtol=1e-4, atol=1e-4)


def test_a_first_sight_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="nothing seen"):
        begun(world(), {})
    with pytest.raises(UserError, match="lacks the sensor 'heat'"):
        begun(world(), {"place": torch.zeros(3, 2)})
    with pytest.raises(UserError, match="'heat' has shape"):
        begun(world(), {"place": torch.zeros(3, 2), "heat": torch.zeros(3, 2)})


def test_a_model_that_learns_goes_on_learning() -> None:
    model, clip = dreamless(), random_clip(EYES, 2, 1)
    model.train()
    begun(model, clip.at(0)).look(clip.at(1), clip.action[:, 0])
    assert model.training


def test_warnings_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    senses = begun(world(), sight())
    for _ in range(3):
        senses.look({}, torch.zeros(3, 2))
        senses.look({"place": torch.full((3, 2), torch.nan), "heat": torch.zeros(3, 1)}, torch.zeros(3, 2))
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "every sensor is missing",
        "sensor 'place' is not finite in 3 of 3 worlds",
    ]


@pytest.mark.parametrize("build", [painter, dreamless])
def test_after_new_weights_it_believes_anew_what_was_seen_lately(build) -> None:
    model, clip = build(), random_clip(EYES, 3, 4)
    senses, fresh = begun(model, clip.at(0)), Senses(model)
    for t in range(4):
        senses.look(clip.at(t + 1), clip.action[:, t])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    stale = senses.state
    senses.refresh(clip.rows(torch.tensor([2, 0])), torch.tensor([2, 0]))  # world 1 saw nothing whole of late
    fresh.begin(clip.at(0))
    for t in range(4):
        fresh.look(clip.at(t + 1), clip.action[:, t])
    for name, value in senses.state.items():
        torch.testing.assert_close(value[[0, 2]], fresh.state[name][[0, 2]])
        assert torch.equal(value[1], stale[name][1])
    senses.refresh(clip.rows(slice(0, 0)), torch.zeros(0, dtype=torch.long))
    assert len(next(iter(senses.state.values()))) == 3
