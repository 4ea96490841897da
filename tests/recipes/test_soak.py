"""Training that goes on, saving and resuming, opens no more files, begins no more threads, takes no more memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SOAK = Path(__file__).parents[2] / "bench" / "soak.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # where its dataclass looks for its own module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_files_threads_and_memory_stay(tmp_path: Path, soak: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "STEPS", 20)
    samples = list(soak.soak(tmp_path, 0, least=12))
    warm, last = samples[1], samples[-1]
    assert last.files <= warm.files + 1 and last.threads <= warm.threads + 1  # one may be ending just now
    assert last.rss_mb - warm.rss_mb < 30


def test_a_leak_is_seen(soak: ModuleType, tmp_path: Path) -> None:
    import threading

    before = soak.open_files(), soak.threads(), soak.rss_mb()
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with (tmp_path / "file").open("w"):
        kept = bytearray(b"x") * 300_000_000  # far more than anything else gives back meanwhile
        assert soak.open_files() == before[0] + 1 and soak.threads() == before[1] + 1
        assert soak.rss_mb() - before[2] > 30
    over.set()
    thread.join()
    assert kept
