from __future__ import annotations

import numpy as np

from innerworld.data.pictures import SHAPES, TEXTURES, pictures


def test_pictures_are_the_same_for_the_same_seed_and_show_every_label():
    made, again = pictures(200, seed=3), pictures(200, seed=3)
    assert made.frames.shape == (200, 32, 32, 3) and made.frames.dtype == np.uint8
    assert np.array_equal(made.frames, again.frames)
    assert np.array_equal(made.shape, again.shape) and np.array_equal(made.texture, again.texture)
    assert set(made.shape) == set(range(len(SHAPES))) and set(made.texture) == set(range(len(TEXTURES)))
    assert not np.array_equal(made.frames, pictures(200, seed=4).frames)


def test_every_shape_is_bright_and_covers_the_same_area():
    made = pictures(400, size=16, seed=1)
    covered = (made.frames.min(-1) > 95).mean((1, 2))  # what is lit in every colour; the ground is below 0.4
    areas = [covered[made.shape == i].mean() for i in range(len(SHAPES))]
    assert np.ptp(areas) < 0.3 * np.mean(areas)
    assert 0.1 < np.mean(areas) < 0.3


def test_a_textured_shape_has_two_tones_and_a_plain_one_has_one():
    made = pictures(150, size=48, seed=2)
    tones = np.array([_tones(frame) for frame in made.frames])
    plain = made.texture == TEXTURES.index("plain")
    assert np.median(tones[plain]) < 0.05 < 0.2 < np.median(tones[~plain])


def test_neither_label_tells_the_other():
    made = pictures(1_000, size=2, seed=5)
    together = np.histogram2d(made.shape, made.texture, (len(SHAPES), len(TEXTURES)))[0]
    expected = together.sum(1, keepdims=True) * together.sum(0) / together.sum()
    chi = ((together - expected) ** 2 / expected).sum()
    assert chi < 28 + 4 * np.sqrt(2 * 28)  # (8 - 1) (5 - 1) degrees of freedom


def _tones(frame: np.ndarray) -> float:
    """Spread of the brightness of what is lit, edges aside, which are mixtures of shape and ground."""
    lit = frame.min(-1) > 95
    inner = lit[1:-1, 1:-1] & lit[:-2, 1:-1] & lit[2:, 1:-1] & lit[1:-1, :-2] & lit[1:-1, 2:]
    bright = frame[1:-1, 1:-1].mean(-1)[inner] / 255
    return float(np.percentile(bright, 90) - np.percentile(bright, 10)) if len(bright) else 0.0
