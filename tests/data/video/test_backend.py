"""One backend is chosen, and says why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import pytest

from innerworld.data.video import backend
from innerworld.errors import UserError

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def _choose_anew() -> Iterator[None]:
    backend.cache_clear()
    yield
    backend.cache_clear()


def test_torchcodec_that_does_not_load_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[backend.__module__], "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(sys.modules[backend.__module__], "version", lambda name: "1.2")
    monkeypatch.setitem(sys.modules, "torchcodec", None)  # importing it fails
    chosen = backend()
    assert chosen.name == "av" and "TorchCodec 1.2 does not load" in chosen.why


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sys.modules[backend.__module__]
    monkeypatch.setattr(here, "find_spec", lambda name: ModuleSpec(name, None) if name == "av" else None)
    assert backend().name == "av" and 'pip install "innerworld[fast]"' in backend().why
    backend.cache_clear()
    monkeypatch.setattr(here, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "innerworld\[data\]"'):
        backend()
