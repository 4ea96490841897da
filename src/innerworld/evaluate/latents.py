"""What do latents keep? Of held-out moments: which others they are taken for, and what a small decoder draws of them.

The model is not taught anything here and is left as it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate.detached_decoder import DecoderConfig, DetachedDecoder, fit_decoder, resized
from innerworld.evaluate.neighbours import Neighbours, nearest_neighbours, state_distance
from innerworld.evaluate.untouched import untouched
from innerworld.learns import Learns
from innerworld.nn.sensors import to_uint8
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

LEARNT, HELD = 1024, 256  # moments that neighbours and decoder come from, and that they are judged on; at most
SHOWN = 6  # of the latter
NEAREST = 5
THUMBNAIL = 96  # pixels of the longer side of a picture to be shown
MOST = 1 << 26  # numbers of tokens that are kept
FRAMES = 64  # looked at together


@dataclass(frozen=True)
class Moments:
    """What was seen, and what was made of it; all over the same n."""

    frames: Tensor  # n y x c   uint8
    features: Tensor  # n d   impressions
    tokens: Tensor  # n s d   what to draw from
    episode: Tensor  # n
    state: Tensor | None  # n k   where the store has a vector of that name


@dataclass(frozen=True)
class Latents:
    """The numbers, flat, and pictures of some held-out moments that nobody chose."""

    metrics: dict[str, float]  # see `latents`
    queries: Tensor  # m y x c
    found: Tensor  # m k y x c   the most similar first
    cosine: Tensor  # m k
    real: Tensor  # m y x c   the queries at the size at which they are drawn
    drawn: Tensor | None  # m y x c   None: the model decodes by itself, or there is nothing to draw
    decoder: DetachedDecoder | None
    seconds: float  # that all of it took


def latents(
    model: Learns,
    store: Store,
    learn: np.ndarray,
    held_out: np.ndarray,
    length: int,
    frame_skip: int = 1,
    seed: int = 0,
    decoder: DecoderConfig = DecoderConfig(),
) -> Latents:
    """Find the nearest neighbours of moments of `held_out` among those of `learn`, and draw them from their latents.

    Moments are those of random clips of `length` actions. A world model that decodes gets no decoder.

    - `neighbour_distance`: of the state, to the nearest neighbour, relative to all; `neighbour_distance_pixels`: the
      same where pixels are compared instead; both only where the store has a `state`
    - `decoded_r2`: share of what sets held-out pictures apart that the decoder draws

    Raises `UserError` for a store without pictures and for features that are not finite.
    """
    began = time.perf_counter()
    sensor = picture_sensor(model.spec, store.spec)
    if sensor is None:
        raise UserError(f"{store.name} has no pictures, so there is nothing to show")
    known = moments(model, _clips(store, learn, length, LEARNT, frame_skip, seed), sensor)
    held = moments(model, _clips(store, held_out, length, HELD, frame_skip, seed + 1), sensor)
    near = nearest_neighbours(held.features, known.features, known.episode, NEAREST)
    metrics = _distances(near, held, known)
    drawer = None
    if not (isinstance(model, WorldModel) and model.card.decodes) and bool((known.frames != known.frames[0]).any()):
        drawer = fit_decoder(known.tokens, known.frames, decoder)
        metrics["decoded_r2"] = drawer.r2(held.tokens, held.frames)
    rows = torch.linspace(0, len(held.frames) - 1, min(SHOWN, len(held.frames))).round().long()
    queries = held.frames[rows]
    return Latents(
        metrics,
        queries=thumbnails(queries),
        found=thumbnails(known.frames[near.rows[rows]].flatten(0, 1)).unflatten(0, (len(rows), -1)),
        cosine=near.cosine[rows],
        real=queries if drawer is None else drawer.shrunk(queries),
        drawn=None if drawer is None else drawer.draw(held.tokens[rows.to(held.tokens.device)]),
        decoder=drawer,
        seconds=time.perf_counter() - began,
    )


def picture_sensor(seen: Spec, stored: Spec) -> str | None:
    """Which pictures to show: those that the model sees, else the store's; None where there are none."""
    return next((name for name in (*seen.images(), *stored.images()) if name in stored.obs), None)


def moments(model: Learns, clips: Clips, sensor: str) -> Moments:
    """Look at the clips of a batch, as many as there is room for their tokens."""
    of_clip = torch.from_numpy(clips.places(0).episode)
    at_once = max(1, FRAMES // (clips.length + 1))
    seen: list[Moments] = []
    with untouched(model) as device:
        for start in range(0, clips.size, at_once):
            stop = min(start + at_once, clips.size)
            seen.append(_look(model, clips.rows(0, start, stop).to(device), of_clip[start:stop], sensor))
            if sum(some.tokens.numel() for some in seen) >= MOST:
                break
    return Moments(
        torch.cat([some.frames for some in seen]),
        torch.cat([some.features for some in seen]),
        torch.cat([some.tokens for some in seen]),
        torch.cat([some.episode for some in seen]),
        torch.cat([some.state for some in seen if some.state is not None]) if seen[0].state is not None else None,
    )


def thumbnails(frames: Tensor) -> Tensor:
    """Frames `n y x c` uint8, made smaller where a side is longer than a thumbnail's."""
    y, x = frames.shape[1:3]
    shrink = THUMBNAIL / max(y, x)
    if shrink >= 1:
        return frames
    return to_uint8(resized(frames, (max(1, round(y * shrink)), max(1, round(x * shrink))))).permute(0, 2, 3, 1)


def _clips(store: Store, episodes: np.ndarray, length: int, moments: int, frame_skip: int, seed: int) -> Clips:
    """With so many moments in all, of the given length where an episode is long enough."""
    t = max(1, min(length, int(store.lengths[episodes].max()) // frame_skip))
    return Clips(store, episodes, t, max(2, moments // (t + 1)), seed, frame_skip)


def _look(model: Learns, clip: Clip, episode: Tensor, sensor: str) -> Moments:
    """At all moments of the clips. Tokens stay where the model is, the rest goes to the CPU."""
    features = model.impressions(clip)
    tokens = features[:, :, None] if isinstance(model, WorldModel) else model.tokens(clip)  # imagined, it has no others
    return Moments(
        clip.obs[sensor].flatten(0, 1)[..., :3].cpu(),  # without transparency
        features.float().flatten(0, 1).cpu(),
        tokens.float().flatten(0, 1),
        episode.repeat_interleave(clip.length + 1),
        clip.obs["state"].flatten(0, 1).cpu() if "state" in clip.obs else None,
    )


def _distances(near: Neighbours, held: Moments, known: Moments) -> dict[str, float]:
    """To the nearest neighbour, by what the model makes of a picture and by the picture itself."""
    if held.state is None or known.state is None:
        return {}
    pixels = [resized(seen.frames, (32, 32)).flatten(1) for seen in (held, known)]
    plain = nearest_neighbours(pixels[0], pixels[1], known.episode, k=1)
    found = {
        name: state_distance(held.state, known.state, rows[:, 0])
        for name, rows in (("neighbour_distance", near.rows), ("neighbour_distance_pixels", plain.rows))
    }
    return {name: value for name, value in found.items() if value == value}
