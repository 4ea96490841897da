"""`check_encoder`: what every encoder must keep, as one public function that anybody can run on a class of theirs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from innerworld.perception import Encoder
from innerworld.testing.world_model import TOLERANCE, check_gradients, check_overfits, check_saved, random_clip
from innerworld.types import Clip, Spec, each

Build = Callable[[Spec], Encoder]


def check_encoder(build: Build, spec: Spec, overfit_steps: int = 150) -> None:
    """Raise `AssertionError`, with a sentence, unless `build(spec)` keeps the contract of `Encoder`.

    Checked: shapes; what is seen is not changed; rows of a batch are independent; the same seed gives the same result;
    save and load are bit-exact; every parameter that asks for one gets a gradient; one clip can be overfitted.
    """
    torch.manual_seed(0)
    encoder = build(spec).eval()
    clip = random_clip(spec, b=3, t=5)
    with torch.no_grad():
        _shapes(encoder, clip)
        _no_mutation(encoder, random_clip(spec, b=3, t=1, seed=1))  # a fresh one, which nothing has changed yet
        _independent_rows(encoder, clip)
        _same_seed(build, spec, clip)
        _save_and_load(encoder, clip)
    check_gradients(encoder, clip)
    check_overfits(build(spec), clip, overfit_steps)


def _shapes(encoder: Encoder, clip: Clip) -> None:
    tokens = encoder.encode(clip.at(0))
    assert tokens.ndim == 3 and tokens.shape[0] == 3, f"encode gives shape {tuple(tokens.shape)}, expected (b, s, d)"
    loss, parts = encoder.loss(clip)
    assert loss.ndim == 0 and bool(loss.isfinite()), f"loss is {loss}, expected a finite scalar"
    assert parts and all(part.ndim == 0 for part in parts.values()), "loss needs named scalar parts"


def _no_mutation(encoder: Encoder, clip: Clip) -> None:
    obs = clip.at(0)
    before = each(torch.Tensor.clone, obs)
    encoder.encode(obs)
    assert all(torch.equal(value, before[name]) for name, value in obs.items()), "encode changed what it was shown"


def _independent_rows(encoder: Encoder, clip: Clip) -> None:
    obs = clip.at(0)
    together = encoder.encode(obs)
    for b in (2, 1):  # 2 first: batch statistics of a single row are an error, which says less
        few = encoder.encode(each(lambda value, b=b: value[:b], obs))
        gap = (together[:b] - few).abs().max() / (1 + few.abs().max())
        assert gap <= TOLERANCE, f"a row of encode depends on other rows: it differs by {gap:.2g}"


def _same_seed(build: Build, spec: Spec, clip: Clip) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        encoder = build(spec).eval()
        found.append((encoder.encode(clip.at(0)), encoder.loss(clip)[0]))
    assert torch.equal(found[0][0], found[1][0]), "encode differs under the same seed"
    assert torch.equal(found[0][1], found[1][1]), "loss differs under the same seed"


def _save_and_load(encoder: Encoder, clip: Clip) -> None:
    again = check_saved(encoder)
    assert torch.equal(encoder.impressions(clip), again.impressions(clip)), "a loaded encoder sees otherwise"
