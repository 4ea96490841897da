"""A few hundred damaged logs of every kind: each comes over true or is refused; and the fuzzer finds planted faults."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from innerworld.data.importers import npz

NEEDS_AV = pytest.mark.skipif(find_spec("av") is None, reason="no decoder")
KINDS = [
    *("npz", "ogbench", "zarr", "pusht", "minari", "d4rl", "robomimic", "swm", "rlds", "pictures"),
    pytest.param("video", marks=NEEDS_AV),
    pytest.param("lerobot", marks=NEEDS_AV),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed(kind: str, fuzz: ModuleType) -> None:
    outcomes = list(fuzz.fuzz([kind], range(20)))
    assert len(outcomes) == 20
    bad = [outcome for outcome in outcomes if outcome.verdict == "BAD"]
    assert not bad, bad


@pytest.mark.parametrize("fault", ["crash", "exception", "silent", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_planted_fault_is_found(fault: str, fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    whole = npz.read_npz
    calls = 0

    def faulty(file, most):
        nonlocal calls
        calls += 1
        values = whole(file, most)
        if calls > 3:  # after the untouched log
            if fault == "crash":
                os._exit(7)
            if fault == "hang":
                time.sleep(60)
            if fault == "exception":
                raise ZeroDivisionError
            values["state"] = values["state"] + np.float32(1)
        return values

    monkeypatch.setattr(npz, "read_npz", faulty)
    monkeypatch.setattr(fuzz, "mutate", lambda folder, log, rng: ("nothing", False))
    outcomes = list(fuzz.fuzz(["npz"], range(2), seconds=3))
    assert [outcome.verdict for outcome in outcomes] == ["BAD", "BAD"]
    told = {"crash": "crashed", "hang": "hangs", "exception": "ZeroDivisionError", "silent": "3 episodes"}
    assert told[fault] in outcomes[0].told
