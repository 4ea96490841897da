from __future__ import annotations

import numpy as np
import pytest

from innerworld.data.films import BUSY, CLASSES, NIGHT, PLAIN, Scene, films
from innerworld.errors import UserError


@pytest.mark.parametrize("question", CLASSES)
def test_films_are_the_same_for_the_same_seed_and_show_every_answer(question):
    made, again = films(question, 40, seed=3), films(question, 40, seed=3)
    assert made.frames.shape == (40, 16, 64, 64, 3) and made.frames.dtype == np.uint8
    assert np.array_equal(made.frames, again.frames) and np.array_equal(made.label, again.label)
    assert set(made.label) == set(range(CLASSES[question]))
    assert not np.array_equal(made.frames, films(question, 40, seed=4).frames)


def test_the_disc_goes_where_the_label_says():
    made = films("direction", 60, size=64, seed=1)
    for frames, label in zip(made.frames, made.label, strict=True):
        step = _shift(frames)
        angle = 2 * np.pi * label / 8
        assert step @ [np.cos(angle), np.sin(angle)] > 0.9 * np.linalg.norm(step) > 0


def test_the_cycle_has_the_order_of_the_label():
    made = films("order", 20, seed=2)
    for frames, label in zip(made.frames, made.label, strict=True):
        lamp = frames.reshape(16, -1, 3)[:, frames.astype(float).std(0).sum(-1).argmax()]  # where most changes
        hue = lamp.argmax(-1)
        steps = np.diff(hue) % 3
        assert set(steps[steps > 0]) == {1 if label == 0 else 2}


def test_the_ball_hits_as_often_as_the_label_says():
    made = films("collisions", 30, frames=64, seed=5)
    for frames, label in zip(made.frames, made.label, strict=True):
        way = np.sign(np.diff([x for x, _ in _middles(frames)]))
        way = way[way != 0]
        assert (np.diff(way) != 0).sum() in (label, label + 1)  # a hit in the first or last half step shows no turn


@pytest.mark.parametrize("scene", [PLAIN, BUSY, NIGHT], ids=["plain", "busy", "night"])
@pytest.mark.parametrize("question", CLASSES)
def test_no_single_frame_tells_the_answer(question, scene):
    """Frames of one index have the same mean picture under every answer, up to what chance leaves."""
    made = films(question, 800, frames=16, size=16, seed=0, scene=scene)
    for t in (0, 8, 15):
        frame = made.frames[:, t].astype(float)
        spread = np.maximum(frame.std(0), 1e-9)  # walls are the same everywhere
        for label in range(CLASSES[question]):
            here, there = frame[made.label == label], frame[made.label != label]
            z = (here.mean(0) - there.mean(0)) / (spread * np.sqrt(1 / len(here) + 1 / len(there)))
            assert np.abs(z).mean() < 1.15  # 0.8 in expectation if there is no difference


def test_all_things_go_where_the_label_says():
    for seed in range(20):
        made = films("direction", 1, size=64, seed=seed, scene=Scene(things=3))
        empty = films("direction", 1, size=64, seed=seed, scene=Scene(things=0))  # the same ground
        step = _shift(made.frames[0], empty.frames[0, 0])
        angle = 2 * np.pi * made.label[0] / 8
        assert step @ [np.cos(angle), np.sin(angle)] > 0.9 * np.linalg.norm(step) > 0


def test_grain_stands_still_and_snow_does_not():
    soft, grain, snow = (
        films("direction", 1, size=32, scene=scene).frames[0].astype(float)
        for scene in (Scene(things=0), Scene(things=0, grain=0.3), Scene(things=0, snow=0.1))
    )
    assert np.array_equal(grain[0], grain[15]) and not np.array_equal(grain, soft)
    assert np.std(snow - soft) == pytest.approx(25.5, rel=0.05)  # the same ground, and noise of a tenth of 255
    assert abs(np.corrcoef((snow - soft)[0].ravel(), (snow - soft)[1].ravel())[0, 1]) < 0.1


def test_a_dark_film_shows_bright_things_only():
    frames = films("direction", 5, size=32, scene=Scene(dark=True)).frames
    ground = np.median(frames, axis=(2, 3), keepdims=True)
    assert np.all(ground == 26) and np.all(frames >= 26) and frames.max() > 100  # 26 of 255: a tenth


def test_a_film_of_an_odd_size_has_grain_too():
    assert films("speed", 1, frames=2, size=15, scene=BUSY).frames.shape == (1, 2, 15, 15, 3)


def test_an_unknown_question_names_the_nearest():
    with pytest.raises(UserError, match="direction"):
        films("directions", 1)


def _middles(frames):
    moved = np.abs(frames.astype(float) - np.median(frames, 0)).sum(-1)  # t y x
    moved[moved < 60] = 0
    ys, xs = np.mgrid[: frames.shape[1], : frames.shape[2]]
    mass = moved.sum((1, 2)) + 1e-9
    return np.stack([(moved * xs).sum((1, 2)) / mass, (moved * ys).sum((1, 2)) / mass], 1)


def _shift(frames, background=None):
    """The mean step of the discs, by circular means, because they leave at one edge and come back at the other.

    What goes together moves the first harmonic of its sum by its own step.
    """
    size = frames.shape[1]
    if background is None:
        background = np.median(frames, 0)
    places = []
    for frame in frames:
        weight = np.abs(frame.astype(float) - background).sum(-1) > 60
        turn = np.exp(2j * np.pi * np.arange(size) / size)
        places.append([np.angle((weight.sum(0) * turn).sum()), np.angle((weight.sum(1) * turn).sum())])
    step = np.array(places[1:]) - np.array(places[:-1])
    step = np.angle(np.exp(1j * step))  # into half a turn
    return np.median(step, axis=0).astype(float) * size / (2 * np.pi)
