"""A mixture draws from each part as often as its weight says, and refuses parts that do not fit together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.data.clips.mixture import Mixture
from innerworld.errors import UserError
from innerworld.types import Spec

Numbered = Callable[..., Store]


def test_each_part_has_its_weight_and_rows_stay_together(numbered: Numbered):
    parts = [Clips(numbered([9], "a"), None, 2, 4000), Clips(numbered([2, 9, 5], "b"), [1, 2], 2, 4000, seed=7)]
    mixed = Mixture(parts, [1, 3])
    clip = mixed.batch(0)
    who = clip.obs["state"][:, 0, 0]
    share = float((who == 0).float().mean())
    assert abs(share - 0.25) < 0.03
    assert set(who.tolist()) == {0, 1, 2}
    torch.testing.assert_close(clip.action[:, 0, 1] * 100, who)
    assert torch.equal(clip.obs["pixels"][:, 0, 0, 0, 0].float(), 10 * who + clip.obs["state"][:, 0, 1])
    names = [part.store.name for part in parts]
    for row, text in enumerate(mixed.origin(0)[:50]):
        e, t = clip.obs["state"][row, 0].int().tolist()
        assert text == f"{names[e > 0]} episode {e} from {t}"


def test_without_weights_every_window_is_equally_likely_and_a_weight_of_zero_is_never(numbered: Numbered):
    parts = [Clips(numbered([9], "a"), None, 2, 64), Clips(numbered([2], "b"), None, 2, 64)]
    assert Mixture(parts).weights.tolist() == pytest.approx([8 / 9, 1 / 9])
    assert float(Mixture(parts, [0, 1]).batch(0).obs["state"][:, 0, 1].max()) == 0


def test_it_is_a_pure_function_of_the_step(numbered: Numbered):
    def mixed() -> Mixture:
        return Mixture([Clips(store, None, 2, 8, seed=3) for store in stores], [0.4, 0.6])

    stores = [numbered([9, 8], "a"), numbered([5], "b")]
    late = mixed().batch(6)
    again = mixed()
    for step in (1, 6, 2):
        again.batch(step)
    assert torch.equal(again.batch(6).obs["state"], late.obs["state"])
    assert torch.equal(again.rows(6, 2, 5).action, late.action[2:5])


def test_what_does_not_fit_is_named(numbered: Numbered):
    a, b = numbered([9], "a"), numbered([9], "b")
    large = numbered([9], "c", Spec({"pixels": (4, 4, 1), "state": (2,)}, action=2))
    first = Clips(a, None, 2, 4)
    for other, words in (
        (
            Clips(large, None, 2, 4),
            r"cannot mix .*a with .*c \(part 1\): sensor 'pixels' has shape \(2, 2, 1\) and \(4",
        ),
        (Clips(b, None, 2, 4, sensors=["state"]), "sensors are pixels, state and state; name those both have"),
        (Clips(b, None, 3, 4), "different length"),
        (Clips(b, None, 2, 4, frame_skip=2), "an action is 2 numbers and 4 numbers"),
        (Clips(b, None, 2, 4, frame_skip=2, actions="sum"), "different length, history or actions"),
    ):
        with pytest.raises(UserError, match=words):
            Mixture([first, other])
    for weights in ([1], [0, 0], [1, -1], [float("nan"), 1]):
        with pytest.raises(UserError, match="as many weights"):
            Mixture([first, Clips(b, None, 2, 4)], weights)
    with pytest.raises(UserError, match="at least one part"):
        Mixture([])
