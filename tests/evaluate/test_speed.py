"""Frames per second: of what is slow, known beforehand, and never longer than it may take; and what a frame costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from innerworld.data import Store
from innerworld.evaluate import speed
from innerworld.evaluate.speed import flops_per_frame, frames_per_s
from innerworld.world import WorldModel


@pytest.fixture
def slow(know: Callable[..., WorldModel], monkeypatch: pytest.MonkeyPatch) -> WorldModel:
    """Takes 5 ms to draw a frame."""
    model = know()
    drawn = type(model).decode

    def decode(state):
        time.sleep(0.005)
        return drawn(model, state)

    monkeypatch.setattr(model, "decode", decode)
    return model


def test_it_is_the_speed_of_one_stream(films: Store, slow: WorldModel) -> None:
    obs = {"state": films.episode(0).obs["state"][:, 0]}
    found = frames_per_s(slow, slow.encode(obs), torch.eye(3)[None], "pixels")
    assert 20 < found < 200


def test_the_clock_stops(films: Store, slow: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "LONGEST", 0.02)
    obs = {"state": films.episode(0).obs["state"][:, 0]}
    begun = time.perf_counter()
    assert 0 < frames_per_s(slow, slow.encode(obs), torch.eye(3)[None], "pixels") < 200
    assert time.perf_counter() - begun < 0.25


def test_operations_are_counted(films: Store, know: Callable[..., WorldModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = know()
    drawn = type(model).decode

    def decode(state):
        torch.mm(torch.ones(3, 4), torch.ones(4, 5))
        return drawn(model, state)

    monkeypatch.setattr(model, "decode", decode)
    obs = {"state": films.episode(0).obs["state"][:, 0]}
    assert flops_per_frame(model, model.encode(obs), torch.eye(3)[None], "pixels") == 2 * 3 * 4 * 5
