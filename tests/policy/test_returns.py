"""λ-returns against loops written by hand, ends of every kind, and a range that resumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.policy.returns import ReturnScale, lambda_returns, lived_returns, weights
from innerworld.types import Clip

GAMMA, LAM = 0.9, 0.7


def _by_hand(reward: list[float], going: list[float], value: list[float]) -> list[float]:
    """One episode, from its end backwards; after the last step the value alone is known."""
    found = [reward[-1] + going[-1] * value[-1]]
    for r, g, v in list(zip(reward, going, value, strict=True))[-2::-1]:
        found.insert(0, r + g * ((1 - LAM) * v + LAM * found[0]))
    return found


def test_returns_are_those_of_a_loop() -> None:
    reward, going, value = torch.randn(3, 6), torch.rand(3, 6), torch.randn(3, 6)
    found = lambda_returns(reward, going, value, LAM)
    for row in range(3):
        expected = _by_hand(reward[row].tolist(), going[row].tolist(), value[row].tolist())
        torch.testing.assert_close(found[row], torch.tensor(expected))


def test_the_extremes_of_lambda() -> None:
    reward, value = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    going = torch.full((1, 3), 0.5)
    torch.testing.assert_close(lambda_returns(reward, going, value, 0.0), reward + 0.5 * value)
    monte_carlo = torch.tensor([[1 + 0.5 * (2 + 0.5 * 18.0), 2 + 0.5 * 18.0, 18.0]])
    torch.testing.assert_close(lambda_returns(reward, going, value, 1.0), monte_carlo)


def test_nothing_comes_after_an_end() -> None:
    going = torch.tensor([[1.0, 0.0, 1.0]])
    reward = torch.tensor([[1.0, 2.0, 99.0]])
    found = lambda_returns(reward, going, torch.full((1, 3), 50.0), LAM)
    assert found[0, 1] == 2


def test_gradients_pass_through_returns() -> None:
    reward, going, value = (torch.rand(2, 4, dtype=torch.double, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *given: lambda_returns(*given, LAM), (reward, going, value))


@pytest.mark.parametrize("terminated", [True, False])
def test_what_was_lived_ends_where_its_episodes_do(terminated: bool) -> None:
    """Two episodes in a clip: the first is over after 3 steps, the fourth leads into the second, which is cut off."""
    clip = _clip(6)
    clip.first[0, 4] = True  # type: ignore[index]
    clip.terminated[0, 2] = terminated
    value = torch.randn(1, 7)
    returns, lived = lived_returns(clip, value, GAMMA, LAM)
    reward, bare = clip.reward[0].tolist(), value[0, 1:].tolist()
    first = _by_hand(reward[:3], [GAMMA, GAMMA, 0.0 if terminated else GAMMA], bare[:3])
    second = _by_hand(reward[4:], [GAMMA, GAMMA], bare[4:])
    assert lived.tolist() == [[True, True, True, False, True, True]]
    torch.testing.assert_close(returns[lived], torch.tensor(first + second))


def test_only_the_last_beliefs_are_judged() -> None:
    clip, value = _clip(5), torch.randn(1, 6)
    whole, _ = lived_returns(clip, value, GAMMA, LAM)
    few, lived = lived_returns(clip, value[:, 2:], GAMMA, LAM)
    torch.testing.assert_close(few, whole[:, 2:])
    assert lived.shape == (1, 3)


def test_the_root_counts_too() -> None:
    going = torch.tensor([0.2, 0.5, 0.5])
    torch.testing.assert_close(weights(going), torch.tensor([0.2, 0.1, 0.05]))
    torch.testing.assert_close(weights(going, 0.5), torch.tensor([0.2, 0.05, 0.0125]))  # discounted from the root on


def test_the_range_follows_slowly_and_is_never_below_one() -> None:
    scale = ReturnScale()
    scale.follow(torch.linspace(0, 1, 101))
    assert scale() == 1
    for _ in range(3):
        scale.follow(torch.linspace(0, 1000, 101))
    expected = 0.9 * sum(0.01 * 1000 * 0.99**k for k in range(3)) + 0.9 * 0.01 * 0.99**3
    assert float(scale()) == pytest.approx(expected, rel=1e-5)


def test_the_range_resumes() -> None:
    scale, again = ReturnScale(), ReturnScale()
    scale.follow(torch.randn(1000) * 500)
    again.load_state_dict(scale.state_dict())
    assert torch.equal(scale(), again()) and scale() > 1


def _clip(t: int) -> Clip:
    torch.manual_seed(0)
    obs: dict[str, Tensor] = {"x": torch.randn(1, t + 1, 2)}
    quiet = torch.zeros(1, t, dtype=torch.bool)
    return Clip(obs, torch.randn(1, t, 2), torch.randn(1, t), quiet, torch.zeros(1, t + 1, dtype=torch.bool))
