"""Alone, a team costs nothing and changes nothing; what it does in many processes is in training/test_parallel.py."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.team import ALONE, Team, join, launched, mean_of_all, noticing, rank, rows_of_all, same_for_all, spread


def test_alone_everything_is_itself() -> None:
    x = torch.ones(3, requires_grad=True)
    with join("cpu") as team, spread(team):
        assert team is ALONE and team.alone
        assert mean_of_all(x) is x and same_for_all(x) is x and rows_of_all(5) == 5
        assert team.highest(3, True) == [3, 1] and team.mean([0.5]) == [0.5] and team.say("x") == ["x"]
        assert team.gather(x) == [x]
    with pytest.raises(ValueError, match="mine"), ALONE.together():
        raise ValueError("mine")
    with pytest.raises(RuntimeError, match="Connection closed"), noticing(ALONE, 3):
        raise RuntimeError("Connection closed by peer")  # of something else than a team


def test_rows_are_shared_evenly_or_not_at_all() -> None:
    teams = [Team(rank, 4) for rank in range(4)]
    rows = list(range(12))
    assert [row for team in teams for row in rows[team.share(12, "clips")]] == rows
    with pytest.raises(UserError, match="10 clips cannot be shared evenly by 4 processes"):
        teams[0].share(10, "clips")


def test_who_is_told_to_be_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (launched(), rank()) == (False, 0)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert (launched(), rank()) == (False, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (launched(), rank()) == (True, 3)


def test_a_process_that_finds_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "x"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="the 2 processes cannot meet"), join("cpu"):
        pass
