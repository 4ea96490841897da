"""`innerworld precompute`: from words to a store with tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.data import Store
from innerworld.perception import LeJEPA
from innerworld.perception.lejepa import LeJEPAConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec


def test_a_store_with_tokens_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    store = Store.create(tmp_path / "data", spec)
    store.add(random_clip(spec, 1, 3))
    torch.manual_seed(0)
    checkpoint.save(
        tmp_path / "eyes", LeJEPA(LeJEPAConfig.model_validate(LeJEPA.presets["tiny"].model_dump()), spec), None, 0, None
    )
    words = ["precompute", str(store.path), "--eyes", str(tmp_path / "eyes"), "--out", str(tmp_path / "out")]
    assert main([*words, "--size", "24", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    (name,) = told["tokens"]
    assert told["episodes"] == 1 and told["tokens"][name] == [9, 96] and name in told["sensors"]
    assert main([*words, "--quiet"]) == 2
    assert "exists already" in capsys.readouterr().err
