"""The benchmarks still fit the library that they measure: each is imported, and what one builds by name is built."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_a_benchmark_is_imported(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("innerworld") or (BENCH / f"{error.name}.py").exists():
            raise
        pytest.skip(f"its peer is not installed: {error.name}")


@pytest.mark.parametrize("name", sorted(importlib.import_module("imagined_step").SUBSTRATES))
def test_every_substrate_of_the_imagined_step_is_built(name: str) -> None:
    layer = importlib.import_module("imagined_step").SUBSTRATES[name](64, 8)
    assert layer(torch.zeros(1, 3, 64)).shape == (1, 3, 64)
