"""Tensors in a folder: they come back bit for bit with what was told of them, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld import saved
from innerworld.errors import UserError


def test_what_was_written_comes_back_and_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    saved.write(tmp_path / "made", "thing", {"a": torch.zeros(9)}, {"steps": 1})
    tensors = {"a": torch.randn(3, 2).T, "b": torch.tensor([True, False])}
    saved.write(tmp_path / "made", "thing", tensors, {"steps": 2})
    saved.write(tmp_path / "made", "other", {}, {})
    found, told = saved.read(tmp_path / "made", "thing")
    assert told == {"steps": 2} and all(torch.equal(found[name], value) for name, value in tensors.items())
    assert len(list((tmp_path / "made").glob("thing-*"))) == 1 and saved.read(tmp_path / "made", "other") == ({}, {})


def test_what_is_missing_broken_or_newer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*thing\.json"):
        saved.read(tmp_path, "thing")
    saved.write(tmp_path, "thing", {"a": torch.zeros(3)}, {})
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match=r"is not what thing\.json says was written"):
        saved.read(tmp_path, "thing")
    index = tmp_path / "thing.json"
    for text, said in ((json.dumps(json.loads(index.read_text()) | {"format": 9}), "format 9"), ("[", "is broken")):
        index.write_text(text)
        with pytest.raises(UserError, match=said):
            saved.read(tmp_path, "thing")
    with pytest.raises(UserError, match="while making"):
        saved.write(index, "thing", {}, {})
