"""A cue shown once: a colour, then a corridor in which nothing tells it, then doors of which one has that colour.

With `pairs` it is associative recall: keys are shown one after another, each with a colour, and one key is asked for.
Time runs by itself: every action walks on, the one before the doors chooses. Drawn by us, for many worlds at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.lawful import CHANCES, COLORS, Lawful, drawn, one_hot
from innerworld.envs.questions import Questions
from innerworld.envs.rows import Single
from innerworld.errors import UserError

FLOOR, WALL, STRIPE, WHITE = np.array([(16, 18, 26), (70, 78, 96), (110, 120, 140), (240, 240, 240)], np.uint8)
KEYS = (  # 5 x 5 points, row by row
    "#...#.#.#...#...#.#.#...#",
    "..#....#..#####..#....#..",
    "#####...#...#...#...#####",
    ".###.#...##...##...#.###.",
    "..#...###.#.#.#..#....#..",
    "#.#.##.#.##.#.##.#.##.#.#",
    "#####.....#####.....#####",
    "#####....#....#....#....#",
)
SPOTS = ((0.1, 0.3), (0.1, 0.55), (0.78, 0.3), (0.78, 0.55))  # x and y of what distracts, shares of the side
PERIOD = 4  # steps after which the stripes of the corridor look the same again
Span = tuple[float, float]
TIME, CHANCE, ASKED, CHOSEN, PAIRS = range(5)
"""What a state's numbers are; from `PAIRS` on the colour of each key, then the keys in the order in which they come."""


class RecallConfig(Config):
    cues: int = Field(default=4, description="colours that a cue may have, and doors", ge=2, le=len(COLORS))
    pairs: int = Field(default=1, description="keys shown, each with a colour; 1: a colour alone", ge=1, le=len(KEYS))
    show: int = Field(default=3, description="how long each is shown, steps", ge=1)
    delay: int = Field(default=100, description="length of the corridor, in which nothing tells it, steps", ge=1)
    distractors: float = Field(
        default=0.5,
        description="share of the corridor's steps that show a spot of some colour beside the way",
        ge=0,
        le=1,
    )
    size: int = Field(default=64, description="side of the picture, pixels", ge=24)
    steps: int | None = Field(default=None, description="truncates after so many steps; null: never", ge=1)


class RecallVector(Lawful):
    """Many corridors, stepped and drawn as one array.

    Actions are the doors; all but the one before the doors, at time `asking`, do nothing. It brings 1 for the door of
    the right colour, else 0; the step ends the world and shows the right colour. Whoever guesses gets `floor`, whoever
    remembers `ceiling`.

    Sensors: `pixels` (y, x, 3) uint8; `symbols`, what they show as ones and zeros; `state`, which tells all and is for
    probes and the oracle.
    """

    Config = RecallConfig

    def __init__(self, num_envs: int = 1, config: RecallConfig | None = None) -> None:
        self.config = config = config or RecallConfig()
        self.asking = config.pairs * config.show + config.delay
        size, k, pairs = config.size, config.cues, config.pairs
        keys = pairs if pairs > 1 else 0
        low = np.array([0, 0, 0, -1, *[0] * (2 * pairs)], np.float32)
        most = max(1, pairs - 1)  # a number that can be but one gives Gymnasium concern
        high = np.array([self.asking + 1, 1, most, k - 1, *[k - 1] * pairs, *[most] * pairs], np.float32)
        sensors = {
            "pixels": spaces.Box(0, 255, (size, size, 3), np.uint8),
            # What is shown, its key, what distracts and where, the stripes, the doors, the door that was chosen.
            "symbols": spaces.Box(0, 1, (3 * k + keys + len(SPOTS) + PERIOD + 1,), np.float32),
        }
        super().__init__("recall", num_envs, sensors, spaces.Box(low, high, dtype=np.float32), k, config.steps)

    @property
    def floor(self) -> float:
        """The mean return of who chooses a door at random, or by anything but the cue; 0 where time runs out before."""
        return self.ceiling / self.config.cues

    @property
    def ceiling(self) -> float:
        """The return of who remembers."""
        return float(self.steps is None or self.steps > self.asking)

    def answer(self, state: NDArray[Any]) -> NDArray[np.int64]:
        """The right door: states `... s` → `...`."""
        asked = np.asarray(state)[..., ASKED].astype(np.int64)
        return np.take_along_axis(np.asarray(state)[..., PAIRS:], asked[..., None], -1)[..., 0].astype(np.int64)

    def lag(self, state: NDArray[Any]) -> NDArray[np.int64]:
        """Steps from the last sight of the asked colour to the end, where it is seen again: `... s` → `...`."""
        state, pairs = np.asarray(state), self.config.pairs
        place = np.argmax(state[..., PAIRS + pairs :] == state[..., ASKED, None], -1)
        return self.asking + 2 - (place + 1) * self.config.show

    def begin(self, rng: np.random.Generator) -> NDArray[np.float32]:
        config = self.config
        chance, asked = drawn(rng), rng.integers(config.pairs)
        colors, order = rng.integers(config.cues, size=config.pairs), rng.permutation(config.pairs)
        return np.array([0, chance, asked, -1, *colors, *order], np.float32)

    def after(self, state: NDArray[np.float32], choice: NDArray[np.int64]) -> NDArray[np.float32]:
        after = state.copy()
        after[:, TIME] += 1
        after[:, CHOSEN] = np.where(state[:, TIME] == self.asking, choice, state[:, CHOSEN])
        return after

    def over(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        return state[:, TIME] > self.asking

    def reward(self, before: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float64]:
        return (self.over(state) & (state[:, CHOSEN] == self.answer(state))).astype(np.float64)

    def check(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        pairs = self.config.pairs
        whole = np.delete(state, CHANCE, axis=1)
        ordered = np.sort(state[:, PAIRS + pairs :], axis=1) == np.arange(pairs)
        asked = (state[:, ASKED] < pairs) & ((state[:, CHOSEN] >= 0) == self.over(state))
        within = np.array([self.states.contains(row) for row in state], bool)
        return within & (whole == np.round(whole)).all(1) & ordered.all(1) & asked & (state[:, CHANCE] < 1)

    def look(self, state: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        shown = self._shown(state)
        ways = {"pixels": lambda: _draw(shown, self.config), "symbols": lambda: _symbols(shown, self.config)}
        return {name: ways[name]() for name in sensors}

    def questions(self, state: NDArray[Any], sensor: str = "pixels") -> Questions:
        """Which colour is seen at the end? One question for each episode, told by its states `n t+1 s`.

        Raises `UserError` for clips that are not whole episodes.
        """
        first, last = state[:, 0], np.asarray(state[:, -1], np.float32)
        if (first[:, TIME] != 0).any() or (last[:, TIME] != self.asking + 1).any():
            raise UserError(f"recall: a question needs whole episodes, of {self.asking + 1} steps each")
        n, k = len(last), self.config.cues
        answer, whole = self.answer(last), []
        for color in range(k):  # the same ends, but for what was shown
            other = last.copy()
            other[np.arange(n), PAIRS + last[:, ASKED].astype(np.int64)] = color
            whole.append(self.look(other, [sensor])[sensor].reshape(n, -1))
        candidates = np.stack(whole, axis=1)  # n k m
        where = np.flatnonzero((candidates != candidates[:, :1]).any((0, 1)))
        return Questions(
            sensor=sensor,
            row=np.arange(n),
            time=last[:, TIME].astype(np.int64),
            lag=self.lag(last),
            where=np.repeat(where[None], n, axis=0),
            candidates=candidates[:, :, where],
            answer=answer,
            ceiling=np.ones(n),
        )

    def _shown(self, state: NDArray[np.float32]) -> Shown:
        config, time = self.config, state[:, TIME].astype(np.int64)
        rows, nothing = np.arange(len(state)), np.full(len(state), -1)
        early, late = time < config.pairs * config.show, time >= self.asking
        place = np.where(early, time // config.show, 0)
        asked = state[:, ASKED].astype(np.int64)
        key = np.where(early, state[rows, PAIRS + config.pairs + place].astype(np.int64), asked)
        told = early | (time > self.asking)
        luck = _scrambled(state[:, CHANCE], time)
        share = (luck >> np.uint64(40)).astype(np.float64) / CHANCES
        spotted = ~early & ~late & (share < config.distractors)
        color, place = luck % np.uint64(config.cues), (luck >> np.uint64(20)) % np.uint64(len(SPOTS))
        return Shown(
            color=np.where(told, state[rows, PAIRS + key].astype(np.int64), nothing),
            key=np.where((early | late) & (config.pairs > 1), key, nothing),
            spot=np.where(spotted, color.astype(np.int64), nothing),
            place=np.where(spotted, place.astype(np.int64), nothing),
            stripe=time % PERIOD,
            doors=late,
            chosen=state[:, CHOSEN].astype(np.int64),
        )


class Recall(Single):
    """One corridor, as a plain Gymnasium environment."""

    Config = RecallConfig

    def __init__(self, config: RecallConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(RecallVector(1, config), render_mode)


@dataclass(frozen=True)
class Shown:
    """What is to be seen: each `n`, and -1 where it is not."""

    color: NDArray[np.int64]  # of the cue
    key: NDArray[np.int64]  # of the colour, or asked for
    spot: NDArray[np.int64]  # colour of what distracts
    place: NDArray[np.int64]  # and which of `SPOTS`
    stripe: NDArray[np.int64]  # where in the period the walls' stripes are
    doors: NDArray[np.bool_]  # are they seen
    chosen: NDArray[np.int64]  # which of them


def _symbols(shown: Shown, config: RecallConfig) -> NDArray[np.float32]:
    k, keys = config.cues, config.pairs if config.pairs > 1 else 0
    parts = [one_hot(shown.color, k), one_hot(shown.key, keys), one_hot(shown.spot, k)]
    parts += [one_hot(shown.place, len(SPOTS)), one_hot(shown.stripe, PERIOD)]
    return np.concatenate([*parts, shown.doors[:, None].astype(np.float32), one_hot(shown.chosen, k)], axis=1)


def _draw(shown: Shown, config: RecallConfig) -> NDArray[np.uint8]:
    """Pictures `n y x 3`: the way between two walls; on it a framed colour and its key above, or a spot, or doors."""
    size, n = config.size, len(shown.color)
    at = lambda share: round(share * size)
    picture = np.empty((n, size, size, 3), np.uint8)
    picture[:] = FLOOR
    rows = (np.arange(size) * 4 * PERIOD // size)[None] - shown.stripe[:, None]  # n y   stripes come nearer
    wall = np.where((rows % PERIOD == 0)[..., None], STRIPE, WALL)  # n y 3
    for side in (slice(0, at(0.06)), slice(size - at(0.06), size)):
        picture[:, :, side] = wall[:, :, None]
    told = shown.color >= 0
    _fill(picture, told, (0.28, 0.72), (0.28, 0.72), np.broadcast_to(WHITE, (n, 3)))
    _fill(picture, told, (0.32, 0.68), (0.32, 0.68), COLORS[shown.color])
    for key in range(config.pairs):
        _stamp(picture, shown.key == key, KEYS[key])
    for place, (x, y) in enumerate(SPOTS):
        _fill(picture, shown.place == place, (x, x + 0.12), (y, y + 0.12), COLORS[shown.spot])
    width = 0.84 / config.cues
    for door in range(config.cues):
        across = (0.08 + width * (door + 0.15), 0.08 + width * (door + 0.85))
        _fill(picture, shown.doors, across, (0.78, 0.9), np.broadcast_to(COLORS[door], (n, 3)))
        _fill(picture, shown.chosen == door, across, (0.92, 0.98), np.broadcast_to(WHITE, (n, 3)))
    return picture


def _fill(picture: NDArray[np.uint8], rows: NDArray[np.bool_], x: Span, y: Span, color: NDArray[np.uint8]) -> None:
    """Paint a rectangle, given in shares of the side, into some of the pictures: colours `n 3`."""
    size = picture.shape[1]
    across, down = (slice(round(low * size), round(high * size)) for low, high in (x, y))
    picture[rows, down, across] = color[rows][:, None, None]


def _stamp(picture: NDArray[np.uint8], rows: NDArray[np.bool_], key: str) -> None:
    """Draw a key's sign, 5 x 5 points, above the middle."""
    size = picture.shape[1]
    side, left, top = round(0.2 * size), round(0.4 * size), round(0.04 * size)
    points = np.array(list(key)).reshape(5, 5) == "#"
    point = np.arange(side) * 5 // side
    sign = np.zeros((size, size), bool)
    sign[top : top + side, left : left + side] = points[point[:, None], point]
    picture[rows[:, None, None] & sign] = WHITE


def _scrambled(chance: NDArray[np.float32], time: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Bits that look random and follow from an episode's chance and the time alone (the finaliser of splitmix64)."""
    bits = (chance.astype(np.float64) * CHANCES).astype(np.uint64) * np.uint64(1 << 24) + time.astype(np.uint64)
    bits = (bits + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))
