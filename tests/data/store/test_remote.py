"""Stores elsewhere: the same batches, a bounded cache, downloads that go on, and addresses that cannot be trusted."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from innerworld.data import Clips, Store
from innerworld.data.store.remote import Bucket
from innerworld.errors import UserError

Numbered = Callable[..., Store]
LENGTHS = [9, 8, 7, 9, 8, 7]


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerworld.data.store.remote.time.sleep", lambda seconds: None)


@pytest.fixture
def memory(numbered: Numbered) -> Iterator[tuple[Store, str]]:
    """A store here, and the address of its copy in fsspec's memory."""
    store = numbered(LENGTHS)
    system = fsspec.filesystem("memory")
    system.put(str(store.path), "/bucket/store", recursive=True)
    yield store, "memory://bucket/store"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def served(numbered: Numbered) -> Iterator[tuple[Store, str]]:
    """A store here, and the address at which a web server, which cannot send parts of files, shows it."""
    store = numbered(LENGTHS)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=store.path.parent))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield store, f"http://127.0.0.1:{server.server_port}/store"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_store_in_a_bucket_gives_the_same_batches_and_only_shards_that_are_read_are_fetched(
    memory: tuple[Store, str], tmp_path: Path
):
    store, address = memory
    far = Store.open(Bucket(address, tmp_path / "cache"))
    assert far.name == address and far.lengths.tolist() == LENGTHS
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    clips = Clips(far, [2, 3], length=2, batch=6)
    assert torch.equal(clips.batch(4).obs["pixels"], Clips(store, [2, 3], length=2, batch=6).batch(4).obs["pixels"])
    assert [file.name for file in (tmp_path / "cache").rglob("*.safetensors")] == ["000001.safetensors"]


def test_a_web_server_will_do(served: tuple[Store, str], tmp_path: Path):
    store, address = served
    far = Store.open(Bucket(address, tmp_path / "cache"))
    ours, theirs = (Clips(each, None, length=2, batch=9).batch(0) for each in (far, store))
    assert torch.equal(ours.obs["pixels"], theirs.obs["pixels"]) and torch.equal(ours.action, theirs.action)
    with pytest.raises(UserError, match=r"http://127.0.0.1:\d+/nothing"):
        Store.open(Bucket(address.replace("/store", "/nothing"), tmp_path / "cache"))


def test_a_web_server_without_listings(served: tuple[Store, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bucket = Bucket(served[1], tmp_path / "cache")
    monkeypatch.setattr(bucket, "_list", lambda at: [])
    assert bucket.names(".") == ["manifest.jsonl", "meta.json"]
    assert Store.open(bucket).lengths.tolist() == LENGTHS


def test_a_download_that_was_killed_goes_on_where_it_was(
    memory: tuple[Store, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("innerworld.data.store.remote.CHUNK", 100)
    store, address = memory
    content = (store.path / "shards/000000.safetensors").read_bytes()
    bucket = Bucket(address, tmp_path / "cache")
    asked: list[int] = []
    system = bucket._system
    real = system.cat_file

    def dies_later(path: str, start: int, stop: int) -> bytes:
        asked.append(start)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(path, start, stop)

    monkeypatch.setattr(system, "cat_file", dies_later)
    with pytest.raises(KeyboardInterrupt):
        bucket.local("shards/000000.safetensors")
    path = Bucket(address, tmp_path / "cache").local("shards/000000.safetensors")
    assert path.read_bytes() == content
    assert asked[:5] == [0, 100, 200, 300, 300]
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_what_has_changed_is_fetched_again_also_half_way(
    memory: tuple[Store, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    address = memory[1]
    system = fsspec.filesystem("memory")
    assert Bucket(address, tmp_path / "cache").local("meta.json").read_bytes() != b"new!"
    system.pipe("/bucket/store/meta.json", b"new!")
    path = Bucket(address, tmp_path / "cache").local("meta.json")
    assert path.read_bytes() == b"new!"
    path.unlink()
    path.with_name("meta.json.part").write_bytes(b"old half")
    path.with_name("meta.json.note").write_text("of another version", encoding="utf-8")
    assert Bucket(address, tmp_path / "cache").local("meta.json").read_bytes() == b"new!"


def test_the_cache_is_bounded_and_what_was_not_used_for_longest_goes(memory: tuple[Store, str], tmp_path: Path):
    store, address = memory
    size = max(file.stat().st_size for file in store.path.rglob("*.safetensors"))
    limit = 2.9 * size / 1e9
    bucket = Bucket(address, tmp_path / "cache", limit_gb=limit)

    def kept() -> list[str]:
        return sorted(file.name[5] for file in (tmp_path / "cache").rglob("*.safetensors"))

    for number in (0, 1, 0, 2):
        bucket.local(f"shards/{number:06d}.safetensors")
    assert kept() == ["0", "2"]
    far = Store.open(bucket)
    clips = Clips(far, None, length=2, batch=30)
    for step in range(4):
        assert torch.equal(clips.batch(step).obs["state"], Clips(store, None, 2, 30).batch(step).obs["state"])
    assert len(kept()) <= 2
    with pytest.raises(UserError, match="more than the cache may hold"):
        Bucket(address, tmp_path / "small", limit_gb=1e-8).local("shards/000000.safetensors")


def test_a_failure_is_tried_again_and_then_told_with_the_address(
    memory: tuple[Store, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bucket = Bucket(memory[1], tmp_path / "cache", tries=3)
    real, left = bucket._system.cat_file, [2]

    def flaky(path: str, start: int, stop: int) -> bytes:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionResetError("connection reset")
        return real(path, start, stop)

    monkeypatch.setattr(bucket._system, "cat_file", flaky)
    assert bucket.local("meta.json").stat().st_size > 0
    left[0] = 3
    with pytest.raises(
        UserError, match=r"cannot fetch memory://bucket/store/manifest\.jsonl: connection reset \(tried 3"
    ):
        bucket.local("manifest.jsonl")
    monkeypatch.setattr(bucket._system, "cat_file", lambda path, start, stop: b"too short")
    with pytest.raises(UserError, match="it sent 9 bytes of"):
        bucket.local("manifest.jsonl")
    with pytest.raises(UserError, match=r"memory://bucket/store/nothing is not there"):
        bucket.local("nothing")


@pytest.mark.parametrize(
    "file", ["../other", "shards/../../x", "/etc/passwd", "a//b", "C:/x", "a\\..\\b", "", "a\0b", "."]
)
def test_no_name_leads_out_of_the_cache(memory: tuple[Store, str], tmp_path: Path, file: str):
    with pytest.raises(UserError, match="leads out of the store"):
        Bucket(memory[1], tmp_path / "cache").local(file)


def test_a_scheme_that_is_unknown_or_whose_package_is_missing_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read nonsense://x"):
        Bucket("nonsense://x", tmp_path)


@pytest.mark.slow
def test_processes_share_a_cache(served: tuple[Store, str], tmp_path: Path, begin: Callable[..., Any]):
    begun = [begin(FIRST_SUM, served[1], tmp_path / "cache") for _ in range(3)]
    sums = [float(process.end()[1]) for process in begun]
    assert sums == [float(Clips(served[0], None, 2, 30).batch(0).obs["state"].sum())] * 3


FIRST_SUM = """
import sys
from innerworld.data import Clips, Store
from innerworld.data.store.remote import Bucket
print(float(Clips(Store.open(Bucket(*sys.argv[1:])), None, 2, 30).batch(0).obs["state"].sum()))
"""


@pytest.mark.parametrize("content", [b"null\n", b"{torn\n", b"[" * 100_000 + b"\n"])
def test_a_manifest_that_is_none_is_told(memory: tuple[Store, str], tmp_path: Path, content: bytes) -> None:
    fsspec.filesystem("memory").pipe("/bucket/store/manifest.jsonl", content)
    with pytest.raises(UserError, match=r"manifest\.jsonl is corrupt"):
        Store.open(Bucket(memory[1], cache=tmp_path / "cache"))
