"""How much of what was shown long ago does a world model still know? Asked by lag, beside a floor and a ceiling.

`generated` asks its imagination, as S4WM's tests do (Deng et al. 2023, arXiv 2307.02064): after a context the true
actions are imagined, and what is decoded is compared with what was really there. `probed` asks its features, as Memory
Maze's probes do (Pasukonis et al. 2023, arXiv 2210.13383), whether or not a family decodes. Worlds that ask are
`innerworld.envs.recall` and `innerworld.envs.revisit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from innerworld.envs.questions import NEVER, Questions
from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.evaluate.probing import linear_probe
from innerworld.types import Clip, State, each
from innerworld.world import WorldModel

LAGS = (0, 10, 30, 100, 300, 1000)
"""Where one row of the result ends and the next begins, steps."""
ROWS = 256  # episodes that are watched together
COMPARED = 4096  # questions that are compared with their candidates together


@dataclass(frozen=True)
class Recalled:
    """What is known of things that were last seen between `lag[0]` and `lag[1]` steps before they were asked for."""

    lag: tuple[int, int]  # least and most; NEVER twice: they had not been seen, and only luck knows them
    n: int  # questions
    accuracy: float  # share that was told right
    low: float  # of its 95 % interval, which takes into account that an episode's questions hang together
    high: float
    floor: float  # accuracy of who remembers nothing
    ceiling: float  # of who forgets nothing
    error: float | None = None  # mean squared error of what was decoded, values in [0, 1]
    error_floor: float | None = None  # the same, were the mean of the candidates decoded


@torch.no_grad()
def generated(
    model: WorldModel,
    clip: Clip,
    questions: Questions,
    context: int,
    lags: Sequence[int] = LAGS,
    rows: int = ROWS,
) -> list[Recalled]:
    """Watch each episode of `clip` until time `context`, imagine its own actions from there, compare what is decoded.

    An answer is the candidate that is nearest to what is decoded. `rows` episodes are watched at once: fewer take less
    memory. Raises `UserError` for a family that does not decode the questions' sensor, and for a question that is asked
    while the model still sees.
    """
    if len(questions) == 0 or questions.time.min() <= context or questions.time.max() > clip.length:
        raise UserError(f"recall: there must be questions, all after time {context} and up to the clip's {clip.length}")
    model.eval()
    shown = torch.empty(questions.where.shape)  # q m
    for first in range(0, len(clip.action), rows):
        mine = (questions.row >= first) & (questions.row < first + rows)
        part = clip.rows(slice(first, first + rows))
        for t, seen in _imagined(model, part, questions.sensor, context, sorted(set(questions.time[mine].tolist()))):
            asked = np.flatnonzero(mine & (questions.time == t))
            episode = torch.from_numpy(questions.row[asked] - first)
            shown[asked] = seen.cpu()[episode[:, None], torch.from_numpy(questions.where[asked])]
    hits, error, blind = _compared(shown, questions)
    return _by_lag(questions, np.arange(len(questions)), hits, lags, (error, blind))


@torch.no_grad()
def probed(
    model: WorldModel,
    clip: Clip,
    questions: Questions,
    lags: Sequence[int] = LAGS,
    rows: int = ROWS,
    seed: int = 0,
) -> list[Recalled]:
    """Read the answers off what the model believes one step before they are seen, with one matrix.

    The matrix is fitted on the questions of one half of the episodes and judged on those of the other; it cannot know
    which tile of a maze is meant, so ask it of worlds with one question an episode. Raises `UserError` for fewer than
    four episodes.
    """
    if len(questions) == 0 or len(clip.action) < 4:
        raise UserError(f"recall: {len(questions)} questions in {len(clip.action)} episodes: give four or more of both")
    model.eval()
    order = np.random.default_rng(seed).permutation(len(clip.action))
    chosen = np.isin(questions.row, order[: len(order) // 2])
    learn, asked = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    x = _believed(model, clip, questions, rows)  # q d
    answer = torch.from_numpy(questions.answer)
    y = F.one_hot(answer, questions.candidates.shape[1]).double()
    probe = linear_probe(x[learn], y[learn], x[asked], y[asked])
    told = (x[asked].cpu().double() @ probe["weights"] + probe["intercept"]).argmax(-1)
    return _by_lag(questions, asked, (told == answer[asked]).numpy(), lags)


def _imagined(
    model: WorldModel, clip: Clip, sensor: str, context: int, times: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """What is decoded at each of these times, `b m`."""
    *_, state = _watched(model, clip, context)
    last = max(times, default=context)
    roll = model.roll(each(lambda value: value[:, None], state), last - context)
    for t in range(context + 1, last + 1):
        state = roll(clip.action[:, t - 1], None)
        if t in times:
            seen = model.decode(state)
            if sensor not in seen:
                raise UserError(f"recall: {model.card.name} does not decode {sensor!r}: ask its features, with probed")
            yield t, seen[sensor].flatten(1).float()


def _believed(model: WorldModel, clip: Clip, questions: Questions, rows: int) -> Tensor:
    """Features one step before each question: `q d`."""
    found: list[Tensor] = []
    order: list[NDArray[np.int64]] = []
    for first in range(0, len(clip.action), rows):
        asked = np.flatnonzero((questions.row >= first) & (questions.row < first + rows))
        if len(asked) == 0:
            continue
        time, row = questions.time[asked] - 1, questions.row[asked] - first
        for t, state in enumerate(_watched(model, clip.rows(slice(first, first + rows)), int(time.max()))):
            if (time == t).any():
                found.append(model.features(state)[torch.from_numpy(row[time == t])])
                order.append(asked[time == t])
    back = np.argsort(np.concatenate(order))
    return torch.cat(found)[back]


def _watched(model: WorldModel, clip: Clip, last: int) -> Iterator[State]:
    """What is believed at the times 0 to `last`, one look after another: all those memories at once may not fit."""
    state = model.encode(clip.at(0))
    yield state
    for t in range(last):
        state = model.encode(clip.at(t + 1), state, clip.action[:, t])
        yield state


def _compared(
    shown: Tensor, questions: Questions
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Of what is shown, `q m`: is the right candidate the nearest, its mean squared error, and that of their mean."""
    hits, errors, blind = [], [], []
    unit = 255 if questions.candidates.dtype == np.uint8 else 1
    for some in np.array_split(np.arange(len(shown)), -(-len(shown) // COMPARED)):
        candidates = torch.from_numpy(questions.candidates[some]).float() / unit  # q k m
        right = torch.from_numpy(questions.answer[some])
        away = (shown[some, None] - candidates).square().mean(-1)  # q k
        truth = candidates[torch.arange(len(some)), right]
        hits.append(away.argmin(-1) == right)
        errors.append(away.gather(1, right[:, None])[:, 0].double())
        blind.append((candidates.mean(1) - truth).square().mean(-1).double())
    return torch.cat(hits).numpy(), torch.cat(errors).numpy(), torch.cat(blind).numpy()


def _by_lag(
    questions: Questions,
    asked: NDArray[np.int64],
    hits: NDArray[np.bool_],
    lags: Sequence[int],
    errors: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> list[Recalled]:
    """One row for each stretch of lags in which something was `asked`, what was never seen last."""
    lag, row = questions.lag[asked], questions.row[asked]
    stretch = np.where(lag == NEVER, len(lags), np.searchsorted(np.asarray(lags), lag, side="right"))
    found = []
    for k in np.unique(stretch).tolist():
        mine = np.flatnonzero(stretch == k)
        low, high = _interval(hits[mine], row[mine])
        error, blind = (None, None) if errors is None else (float(each[mine].mean()) for each in errors)
        found.append(
            Recalled(
                lag=(int(lag[mine].min()), int(lag[mine].max())),
                n=len(mine),
                accuracy=float(hits[mine].mean()),
                low=low,
                high=high,
                floor=questions.floor,
                ceiling=float(questions.ceiling[asked][mine].mean()),
                error=error,
                error_floor=blind,
            )
        )
    return found


def _interval(hits: NDArray[np.bool_], row: NDArray[np.int64]) -> tuple[float, float]:
    """Wilson's interval for as many independent questions as these are worth (Kish's design effect).

    Where all or none are right their spread says nothing: then an episode counts as one question.
    """
    rate, n = hits.mean(), len(hits)
    _, index = np.unique(row, return_inverse=True)
    over = np.bincount(index, weights=hits - rate)  # of each episode, hits above what is to be expected
    episodes = len(over)
    if episodes == 1 or not over.any():
        worth = episodes
    else:
        variance = (over**2).sum() / n**2 * episodes / (episodes - 1)
        worth = min(n, max(1, round(rate * (1 - rate) / variance)))
    return wilson(round(rate * worth), worth)
