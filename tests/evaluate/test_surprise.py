"""Surprise: who knows the law is right, who cannot know is at chance, and the numbers are those of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.evaluate.surprise import SurpriseConfig, last_frame_score, pairwise, score_of, surprise
from innerworld.models import JEPA, RSSM
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.types import Clip, Obs, Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (16, 16, 3)}, 0)


def drifting(obs: Obs, action: Tensor) -> Obs:
    """The law of `Line`: a point moves on by its speed."""
    x, speed = obs["state"][:, 0], obs["state"][:, 1]
    return {"state": torch.stack([x + speed, speed], dim=1)}


class Line:
    """Points on a line: a possible one goes on as it did; an impossible one turns in the middle."""

    def __init__(self, each: int = 6) -> None:
        self.each = each

    def counts(self) -> dict[str, int]:
        return {"inertia": self.each, "twice": 2 * self.each}

    def films(self, principle: str, rows: range) -> dict[str, NDArray[Any]]:
        speed = np.array([1.0, -1.0, 1.0, -1.0])[:, None] * np.ones(9)
        speed[2:, 5:] *= -1
        x = np.concatenate([np.zeros((4, 1)), np.cumsum(speed, axis=1)[:, :-1]], axis=1)
        state = np.stack([x, speed], axis=-1).astype(np.float32)
        return {"state": np.stack([state + 0.1 * i * np.array([1, 0], np.float32) for i in rows])}


def oracle(**config: Any) -> Oracle:
    return Oracle(OracleConfig(), Spec({"state": (2,)}, **({"action": 0} | config)), drifting)


def test_who_knows_the_law_is_surprised_by_the_impossible_alone() -> None:
    films = {"state": Line().films("inertia", range(1))["state"][0]}
    clip = Clip({"state": torch.from_numpy(films["state"])}, torch.zeros(4, 8, 0), torch.zeros(4, 8), torch.zeros(4, 8))
    found = surprise(oracle(), clip)
    assert found.shape == (4, 8) and (found[:2] == 0).all()
    assert found[2].tolist() == [0, 0, 0, 0, 4, 0, 0, 0]  # the speed of 1 is -1 when it is next looked at
    ahead = surprise(oracle(), clip, horizon=3)
    assert ahead.shape == (4, 6) and ahead[2].tolist() == [0, 0, 4, 4 + 4, 4 + 16, 0]


def test_pairs_are_counted_and_intervals_are_wilsons() -> None:
    knows = score_of(oracle())
    ignores = lambda films: torch.zeros(len(films["state"]))
    reverses = lambda films: -knows(films)
    watched: list[int] = []
    scores = {"knows": knows, "ignores": ignores, "reverses": reverses}
    found = pairwise(Line(6), scores, SurpriseConfig(batch=4), watched.append)
    assert watched == [4, 6, 10, 14, 18]
    assert [found[who]["inertia"] for who in scores] == [1.0, 0.5, 0.0]
    assert [found["knows"][f"{name}_pairs"] for name in ("inertia", "twice", "all")] == [12, 24, 36]
    assert [found["knows"][f"{name}_quadruplets"] for name in ("inertia", "twice", "all")] == [6, 12, 18]
    for who, hits in (("knows", 36), ("ignores", 18), ("reverses", 0)):
        assert (found[who]["all_low"], found[who]["all_high"]) == wilson(hits, 36)
        assert found[who]["all_sum"] == hits / 36
        assert (found[who]["all_sum_low"], found[who]["all_sum_high"]) == wilson(hits / 2, 18)


def test_a_quadruplet_is_right_where_one_film_is_dull_and_one_is_busy() -> None:
    """Film 1 surprises by 5 whatever comes before it, film 0 by 1, and what cannot be by 0.1 more."""
    scores = torch.tensor([1.0, 5.0, 5.1, 1.1]).double()
    found = pairwise(Line(2), {"busy": lambda films: scores.repeat(len(films["state"]) // 4)})["busy"]
    assert found["inertia"] == 0.5 and found["inertia_sum"] == 1.0


def test_the_largest_and_the_mean_of_steps_and_those_that_do_not_count() -> None:
    films = {"state": Line().films("inertia", range(1))["state"][0]}
    mean, most = (score_of(oracle(), SurpriseConfig(over=over, settle=2))(films) for over in ("mean", "max"))
    assert mean.tolist() == pytest.approx([0, 0, 4 / 6, 4 / 6]) and most.tolist() == [0, 0, 4, 4]
    late = score_of(oracle(), SurpriseConfig(over="max", settle=5))(films)
    assert late.tolist() == [0, 0, 0, 0]


def test_a_model_with_actions_sees_that_nothing_is_done() -> None:
    seen: list[Tensor] = []

    def law(obs: Obs, action: Tensor) -> Obs:
        seen.append(action)
        return drifting(obs, action)

    model = Oracle(OracleConfig(), Spec({"state": (2,)}, 3), law)
    score_of(model)({"state": Line().films("inertia", range(1))["state"][0]})
    assert all(action.shape[1] == 3 and not action.any() for action in seen)
    seen.clear()
    choices = Oracle(OracleConfig(), Spec({"state": (2,)}, 3, discrete=True), law)
    score_of(choices)({"state": Line().films("inertia", range(1))["state"][0]})
    assert seen and all(row == [1, 0, 0] for action in seen for row in action.tolist())  # a choice, not three zeros


def test_frames_may_be_skipped() -> None:
    films = {"state": Line().films("inertia", range(1))["state"][0]}
    shown: list[int] = []

    class Counts(Oracle):
        def watch(self, clip: Clip) -> Any:
            shown.append(clip.length)
            return super().watch(clip)

    score_of(Counts(OracleConfig(), Spec({"state": (2,)}, 0), drifting), frame_skip=2)(films)
    assert shown == [4]


def tiny(name: str) -> WorldModel:
    torch.manual_seed(0)
    if name == "rssm":
        return RSSM(RSSM.presets["small"], SPEC)
    small = JEPA.presets["small"].model_copy(update={"image_size": 16, "history": 3, "rollout": 0})
    return JEPA(small.model_copy(update={"predictor": name}), SPEC)


def pictures(n: int = 4) -> dict[str, NDArray[Any]]:
    return {"pixels": np.random.default_rng(0).integers(0, 256, (n, 7, 16, 16, 3), dtype=np.uint8)}


@pytest.mark.parametrize("name", ["mlp", "transformer", "rssm"])
def test_it_is_the_energy_between_the_predicted_and_the_next_belief(name: str) -> None:
    """As the contract's steps give it, one after another."""
    model = tiny(name).eval()
    pixels = torch.from_numpy(pictures()["pixels"])
    clip = Clip({"pixels": pixels}, torch.zeros(4, 6, 0), torch.zeros(4, 6), torch.zeros(4, 6))
    found = surprise(model, clip)
    with torch.no_grad():
        state = model.encode(clip.at(0))
        for t in range(6):
            expected = model.predict(state, clip.action[:, t])
            state = model.encode(clip.at(t + 1), state, clip.action[:, t])
            torch.testing.assert_close(found[:, t], model.energy(expected, state), atol=1e-4, rtol=1e-3)


def test_by_pixels_it_is_the_error_of_what_is_painted() -> None:
    model = tiny("rssm").eval()
    clip = Clip(
        {"pixels": torch.from_numpy(pictures()["pixels"])}, torch.zeros(4, 6, 0), torch.zeros(4, 6), torch.zeros(4, 6)
    )
    found = surprise(model, clip, by="pixels")
    with torch.no_grad():
        painted = model.decode(model.predict(model.encode(clip.at(0)), clip.action[:, 0]))["pixels"]
    error = (painted - clip.obs["pixels"][:, 1] / 255).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found[:, 0], error, atol=1e-5, rtol=1e-3)
    with pytest.raises(UserError, match="by=energy"):
        surprise(tiny("mlp"), clip, by="pixels")


def test_the_last_frame_again() -> None:
    films = pictures()
    pixels = films["pixels"].astype(float)
    expected = ((pixels[:, 1:] - pixels[:, :-1]) ** 2).mean(axis=(2, 3, 4))[:, 2:].mean(axis=1)
    assert last_frame_score()(films).tolist() == pytest.approx(expected.tolist())


def test_mistakes() -> None:
    with pytest.raises(UserError, match="lower horizon"):
        surprise(
            tiny("mlp"),
            Clip(
                {"pixels": torch.zeros(1, 2, 16, 16, 3).byte()},
                *[torch.zeros(1, 1, 0), torch.zeros(1, 1), torch.zeros(1, 1)],
            ),
            horizon=2,
        )
    with pytest.raises(UserError, match="the model sees 'pixels'"):
        score_of(tiny("mlp"))({"state": np.zeros((4, 5, 2), np.float32)})
    with pytest.raises(UserError, match="has shape"):
        score_of(tiny("mlp"))({"pixels": np.zeros((4, 5, 8, 8, 3), np.uint8)})

    class Broken(Oracle):
        def predict(self, state: Any, action: Tensor, rng: Generator | None = None) -> Any:
            return {"state": state["state"] * float("nan")}

    with pytest.raises(UserError, match="not finite"):
        pairwise(Line(1), {"broken": score_of(Broken(OracleConfig(), Spec({"state": (2,)}, 0), drifting))})
