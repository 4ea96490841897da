"""What would not fit in memory is refused beforehand."""

import pytest
import torch

from innerworld import space
from innerworld.errors import UserError

CPU = torch.device("cpu")


def test_what_fits_passes_and_what_does_not_is_named(monkeypatch):
    monkeypatch.setattr(space, "free_bytes", lambda device: 2**30)
    space.room_for(2**30, CPU, "a dream", "dream less")
    with pytest.raises(UserError, match=r"a dream needs 2\.0 GiB, 1\.0 are free on cpu: dream less"):
        space.room_for(2**31, CPU, "a dream", "dream less")


def test_where_nobody_tells_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(space, "free_bytes", lambda device: None)
    space.room_for(2**60, CPU, "a dream", "dream less")


def test_the_narrowest_limit_counts(monkeypatch, tmp_path):
    limit, used, uses = tmp_path / "limit", tmp_path / "used", tmp_path / "uses"
    limit.write_text("3000\n")
    used.write_text("1000\n")
    uses.write_text("anon 700\ninactive_file 200\nactive_file 100\n")
    monkeypatch.setattr(space, "LIMITS", ((str(limit), str(used), str(uses)), ("/no/such",) * 3))
    assert space.free_bytes(CPU) == 2300  # what is kept of files makes room
    limit.write_text("max\n")
    monkeypatch.setattr(space, "_of_the_machine", lambda: 10**9)
    assert space.free_bytes(CPU) == 10**9
    monkeypatch.setattr(space, "_of_the_machine", lambda: None)
    assert space.free_bytes(CPU) is None and space.free_bytes(torch.device("meta")) is None
