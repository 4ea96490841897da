"""Judge one model on held-out experience: what its belief knows, and how far ahead it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.evaluate.prediction import HORIZONS, position_error, prediction
from innerworld.evaluate.probing import Probe, linear_probe
from innerworld.world import WorldModel, flatten

PROBED = 100  # episodes that a probe is fitted on, at most
CLIPS = 256  # held-out clips that prediction is measured on


@dataclass(frozen=True)
class Knowledge:
    """The numbers, flat, and the probe they rest on (none without a `state` sensor)."""

    metrics: dict[str, float]
    probe: Probe | None


def judge(
    model: WorldModel, store: Store, learn: np.ndarray, held_out: np.ndarray, frame_skip: int = 1, seed: int = 0
) -> Knowledge:
    """Prediction against standing still, and a linear probe of the `state` sensor fitted on episodes learnt from."""
    horizons = [h for h in HORIZONS if h * frame_skip <= store.lengths[held_out].max()] or [1]
    clip = Clips(store, held_out, max(horizons), CLIPS, seed, frame_skip).batch(0)
    metrics = prediction(model, clip, horizons, seed=seed)
    if len(store.spec.obs.get("state", ())) != 1:
        return Knowledge(metrics, None)
    probe = fit_probe(model, store, learn, held_out, frame_skip)
    metrics["probe_r2"] = probe["r2"]
    metrics["probe_error"] = probe["error"].square().sum().sqrt().item()
    metrics |= position_error(model, clip, probe["weights"], probe["intercept"], horizons)
    return Knowledge(metrics, probe)


def fit_probe(
    model: WorldModel,
    store: Store,
    learn: np.ndarray,
    held_out: np.ndarray,
    frame_skip: int = 1,
    most: int = PROBED,
) -> Probe:
    """A linear probe of the `state` sensor, fitted on the first `most` episodes learnt from, tried on held-out ones."""
    model.eval()
    return linear_probe(
        *beliefs(model, store, learn[:most], frame_skip), *beliefs(model, store, held_out[:most], frame_skip)
    )


@torch.no_grad()
def beliefs(model: WorldModel, store: Store, episodes: np.ndarray, frame_skip: int = 1) -> tuple[Tensor, Tensor]:
    """What the model believes along whole episodes: features `n d` and the `state` sensor `n k`."""
    features, states = [], []
    for episode in episodes:
        length = int(store.lengths[episode]) // frame_skip
        if length:
            clip = Clips(store, [int(episode)], length, 1, frame_skip=frame_skip).cut(np.zeros(1, np.int64))
            features.append(model.features(flatten(model.bare(model.watch(clip)), 2)))
            states.append(clip.obs["state"][0])
    return torch.cat(features), torch.cat(states)
