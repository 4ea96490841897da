"""Schedules against the published code's numbers, steps 1, 7, 13, … of 60."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld.nn.schedules import cosine, follow_, linear, warmup_constant_cooldown, warmup_cosine

GOLDEN = json.loads((Path(__file__).parents[1] / "perception" / "golden.json").read_text(encoding="utf-8"))
STEPS = range(1, 60, 6)


def test_the_schedules_are_the_published_ones() -> None:
    flat = [warmup_constant_cooldown(step, 60, 1e-3, 10, 10, start=1e-5) for step in STEPS]
    assert flat == pytest.approx(GOLDEN["wsd_warm10_anneal10_T60"], abs=1e-9)
    round_ = [warmup_cosine(step, 60, 1e-3, 10, start=1e-5, final=1e-6) for step in STEPS]
    assert round_ == pytest.approx(GOLDEN["warmcos_warm10_T60"], abs=1e-9)
    decay = [cosine(step, 60, 0.04, 0.4) for step in STEPS]
    assert decay == pytest.approx(GOLDEN["coswd_T60"], abs=1e-9)


def test_the_ends() -> None:
    assert warmup_constant_cooldown(0, 60, 1.0, 10, 10, start=0.1) == 0.1
    assert (
        warmup_constant_cooldown(60, 60, 1.0, 10, 10, final=0.2)
        == warmup_constant_cooldown(99, 60, 1.0, 10, 10, final=0.2)
        == pytest.approx(0.2)
    )
    assert warmup_cosine(60, 60, 1.0, 10, final=0.2) == warmup_cosine(99, 60, 1.0, 10, final=0.2) == pytest.approx(0.2)
    assert linear(0, 10, 0.996, 1.0) == 0.996 and linear(5, 10, 0.0, 1.0) == 0.5 and linear(99, 10, 0.996, 1.0) == 1.0


def test_a_target_follows() -> None:
    target, source = torch.zeros(3), torch.ones(3, requires_grad=True)
    follow_([target], [source], 0.75)
    assert target.tolist() == [0.25] * 3 and source.tolist() == [1.0] * 3
