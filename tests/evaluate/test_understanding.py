from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.understanding import UnderstandingConfig, one_frame, tokens_of, understand

CONFIG = UnderstandingConfig(heads=2, epochs=15, batch=8, lr=(1e-2, 1e-3), weight_decay=(0.01,))
SHORT = CONFIG.model_copy(update={"epochs": 2})


def blinks(n, seed):
    """A lamp that is on before it is off, or off before it is on: the label is in the order alone."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    frames = np.zeros((n, 4, 8, 8, 3), np.uint8)
    for i, order in enumerate(label):
        frames[i, :2] = 200 * (1 - order)
        frames[i, 2:] = 200 * order
    return frames + rng.integers(0, 20, frames.shape, dtype=np.uint8), label


def brightness(films):
    """One token for each frame: its brightness, and its place in time."""
    light = films.float().mean((2, 3, 4)) / 255  # b t
    when = torch.linspace(-1, 1, films.shape[1]).expand_as(light)
    return torch.stack([light, when, light * when, light**2], dim=-1).repeat(1, 1, 4)


def test_what_motion_tells_is_read_and_a_frame_alone_tells_nothing():
    learn, test = blinks(80, 0), blinks(60, 1)
    found = understand(brightness, learn, test, CONFIG)
    assert found["top1"] > 0.95 and found["low"] < 1 and found["high"] > 0.95
    assert 0.3 < found["chance"] < 0.7
    still = understand(one_frame(lambda films: torch.randn(len(films), 4, 4)), learn, test, CONFIG)
    assert still["low"] < 0.5 + 0.1


def test_the_same_seed_gives_the_same_answer_and_leaves_torch_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = [understand(brightness, blinks(30, 0), blinks(20, 1), SHORT) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(before, torch.get_rng_state())


def test_one_frame_stands_still():
    films, _ = blinks(4, 0)
    shown = []
    one_frame(lambda seen: shown.append(seen) or torch.zeros(len(seen), 1, 2))(torch.from_numpy(films))
    assert torch.equal(shown[0], torch.from_numpy(films[:, 2:3]).expand(-1, 4, -1, -1, -1))


def test_tokens_of_sees_in_parts():
    films, _ = blinks(5, 0)
    assert torch.allclose(tokens_of(brightness, films, 2), brightness(torch.from_numpy(films)))


def test_labels_that_do_not_fit():
    films, label = blinks(12, 0)
    with pytest.raises(UserError, match="12 films with 11 labels"):
        understand(brightness, (films, label[1:]), (films, label), CONFIG)
    with pytest.raises(UserError, match="labels from 0"):
        understand(brightness, (films, label), (films, label - 1), CONFIG)
