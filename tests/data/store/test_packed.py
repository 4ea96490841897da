"""What is packed comes back, row by row; bytes that are no such frame are an error and never a wrong picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from innerworld.data.store.packed import Packed, pack_all
from innerworld.data.store.store import Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth, as pictures are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    phase = rng.uniform(0, 6, (shape[0], 1, 1, shape[3]))
    return (127 + 100 * np.sin(y[None, ..., None] / 9 + phase) * np.cos(x[None, ..., None] / 7)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("frames", ["zstd", "jpeg"])
def test_only_the_rows_asked_for(frames: str, channels: int):
    if frames == "zstd":
        pytest.importorskip("numcodecs")
    elif channels == 4:
        pytest.skip("refused when the store is made")
    images = picture((7, 12, 20, channels))
    blob, ends = pack_all(frames, list(images))  # type: ignore[arg-type]
    packed = Packed(frames, blob, np.concatenate([[0], ends]), (12, 20, channels), "f")  # type: ignore[arg-type]
    assert packed.shape == images.shape and len(packed) == 7
    for rows in (np.s_[:], np.s_[2:6:3], np.s_[6:7], np.s_[3:3]):
        got = packed[rows]
        assert got.shape == images[rows].shape and got.dtype == np.uint8
        assert np.abs(got.astype(int) - images[rows]).max(initial=0) <= (0 if frames == "zstd" else 12)
    np.testing.assert_array_equal(packed.rows(2, 5)[1:], packed[3:5])


@pytest.mark.parametrize("frames", ["zstd", "jpeg"])
def test_bytes_that_are_no_such_frame(frames: str):
    if frames == "zstd":
        pytest.importorskip("numcodecs")
    small, _ = pack_all(frames, list(picture((1, 8, 8, 3))))  # type: ignore[arg-type]
    for blob in (small, small[:-9], small[:0], np.zeros(40, np.uint8)):
        with pytest.raises(UserError, match="f is corrupt: frame 0 cannot be unpacked"):
            Packed(frames, blob, np.array([0, len(blob)]), (16, 8, 3), "f")[:]  # type: ignore[arg-type]


def test_four_channels_are_no_jpeg(tmp_path: Path):
    with pytest.raises(UserError, match="has 4 channels, which JPEG cannot hold"):
        Store.create(tmp_path / "s", Spec({"pixels": (8, 8, 4)}, 1), frames="jpeg")


SHAPES = some.one_of(
    some.tuples(some.integers(1, 5)),
    some.tuples(some.integers(1, 6), some.integers(1, 6), some.sampled_from([1, 3, 4])),
)
SPECS = some.builds(
    Spec,
    some.dictionaries(some.text("abc.é ", min_size=1, max_size=4), SHAPES, min_size=1, max_size=3),
    some.integers(0, 4),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=SPECS,
    lengths=some.lists(some.integers(1, 6), min_size=1, max_size=5),
    frames=some.sampled_from(["raw", "zstd"]),
    loose=some.booleans(),
    seed=some.integers(0, 99),
)
def test_any_episodes_of_any_world_come_back(tmp_path_factory, spec, lengths, frames, loose, seed):  # type: ignore[no-untyped-def]
    if frames == "zstd":
        pytest.importorskip("numcodecs")
    rng = torch.Generator().manual_seed(seed)
    given_ = [_episode(spec, t, rng) for t in lengths]
    path = tmp_path_factory.mktemp("any") / "s"
    store = Store.create(path, spec, frames=frames)
    if loose:
        for clip in given_:
            store.add(clip)
    else:
        store.add_all(given_)
    for step in ("as written", "packed"):
        again = Store.open(path)
        assert again.spec == spec and again.lengths.tolist() == lengths
        for i, clip in enumerate(given_):
            got = again.episode(i)
            assert torch.equal(got.action, clip.action) and torch.equal(got.reward, clip.reward), step
            assert torch.equal(got.terminated, clip.terminated)
            assert all(torch.equal(got.obs[name], clip.obs[name]) for name in spec.obs)
        store.compact()


def _episode(spec: Spec, t: int, rng: torch.Generator) -> Clip:
    obs = {
        name: torch.randint(0, 256, (1, t + 1, *shape), dtype=torch.uint8, generator=rng)
        if len(shape) == 3
        else torch.randn(1, t + 1, *shape, generator=rng)
        for name, shape in spec.obs.items()
    }
    action = torch.rand(1, t, spec.action, generator=rng)
    return Clip(obs, action, torch.randn(1, t, generator=rng), torch.rand(1, t, generator=rng) > 0.5)
