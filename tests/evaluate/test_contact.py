"""Object contact prediction: what a model knows is read off, per scenario, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.contact import ContactConfig, beliefs_of, judge_contact, small_pixels
from innerworld.models import JEPA
from innerworld.models.jepa import JEPAConfig
from innerworld.types import Spec

FEW = ContactConfig(strengths=(0.01, 1.0))


def drawn(n: int, seed: int, sign: float = 1.0) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Half of scenario a, half of b; in b a feature says the opposite with `sign` −1."""
    rng = torch.Generator().manual_seed(seed)
    kinds = np.array(["a", "b"] * (n // 2))
    y = np.arange(n) // 2 % 2
    x = torch.randn(n, 4, generator=rng) * 0.1
    x[:, 0] += torch.from_numpy(np.where(kinds == "b", sign, 1.0) * (2 * y - 1))
    return x, y, kinds


def test_what_is_known_is_read_off() -> None:
    found = judge_contact(drawn(80, 0), drawn(40, 1), FEW)
    assert found["all"] == found["a"] == found["mean"] == found["a_auc"] == 1.0
    assert found["all_films"] == 40 and found["b_films"] == 20 and found["a_common"] == 0.5
    assert found["a_low"] < 1 == found["a_high"]


def test_one_readout_for_all_or_one_for_each() -> None:
    """Where the scenarios contradict each other, only a readout of their own can be right in both."""
    learn, test = drawn(80, 0, -1.0), drawn(40, 1, -1.0)
    assert judge_contact(learn, test, FEW)["mean"] < 0.8
    assert judge_contact(learn, test, FEW.model_copy(update={"readout": "scenario"}))["mean"] == 1.0


def test_the_mean_is_over_scenarios_not_films() -> None:
    x, y, kinds = drawn(40, 1)
    rows = np.r_[0:40:2, 1:5:2]  # 20 films of a, 2 of b
    y = np.where(kinds == "b", 1 - y, y)  # in b all labels are wrong
    found = judge_contact(drawn(80, 0), (x[torch.from_numpy(rows)], y[rows], kinds[rows]), FEW)
    assert found["mean"] == 0.5 and found["all"] == 20 / 22


def test_without_films_to_learn_from_nothing_is_judged() -> None:
    x, y, _ = drawn(40, 0)
    with pytest.raises(UserError, match="no films of 'b' to learn from, but 10 to be judged on"):
        judge_contact((x, y, np.full(40, "a")), drawn(20, 1), FEW)


def test_beliefs_are_laid_side_by_side() -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(image_size=16, slices=16), Spec({"pixels": (16, 16, 3)}, 2))
    films = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 3), dtype=np.uint8)
    seen, further = (beliefs_of(model, ContactConfig(imagine=h))(films) for h in (0, 2))
    d = model.features(model.encode({"pixels": torch.from_numpy(films[:, 0])})).shape[1]
    assert seen.shape == (3, 4 * d) and further.shape == (3, 6 * d)
    torch.testing.assert_close(further[:, : 4 * d], seen)
    torch.testing.assert_close(seen[1:2], beliefs_of(model)(films[1:2]))  # of a film by itself
    assert (further[:, 4 * d : 5 * d] != further[:, 5 * d :]).any()


def test_small_pixels_are_means() -> None:
    films = np.zeros((2, 3, 16, 16, 3), np.uint8)
    films[1, 2, :2, :2] = 8
    pixels = small_pixels(films)
    assert pixels.shape == (2, 3 * 3 * 64) and pixels[0].sum() == 0 and sorted(pixels[1].unique().tolist()) == [0, 8]
