"""Evolve controllers by CMA-ES (Hansen, arXiv 1604.00772), and let a whole population dream at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.policy.controller import Controllers
from innerworld.types import State
from innerworld.world import WorldModel

Fitness = Callable[[Tensor, int], Tensor]
"""Weights of a population `n p`, and the number of the generation → how good each is, `n`: higher is better."""
SAME = 1e-5  # between what a search draws and what it drew before, relative


class CMAConfig(Config):
    population: int = Field(default=64, description="controllers in a generation", ge=4)
    sigma: float = Field(default=0.1, description="deviation of the first generation's weights, about 0", gt=0)
    diagonal: bool = Field(default=False, description="learn a deviation for each weight alone: faster, and blinder")
    seed: int = Field(default=0, description="of what is drawn", ge=0)


@dataclass(frozen=True)
class Generation:
    """What came of one generation."""

    number: int
    fitness: tuple[float, ...]  # of each controller
    mark: float  # a number out of its first controller, by which a search that goes on knows itself
    centre: Tensor  # p   the mean of the search after it: its best guess


def evolve(
    fitness: Fitness, size: int, generations: int, config: CMAConfig = CMAConfig(), before: Sequence[Generation] = ()
) -> Iterator[Generation]:
    """Yield generation after generation of weights of `size` numbers, those that are new.

    A search is determined by its seed and by the fitness of each generation: given those of the generations `before`,
    it goes on as if it had never stopped. Raises `UserError` without the package `cma`, for a fitness that is not
    finite, and where the search draws other controllers than the ones that were judged before.
    """
    search = _search(size, config)
    for number in range(generations):
        asked = np.stack(search.ask())  # n p
        mark = float(asked[0].sum())
        if number < len(before):
            known = before[number]
            _check_known(known, mark, config)
            judged = np.asarray(known.fitness)
        else:
            judged = fitness(torch.from_numpy(asked.astype(np.float32)), number).double().cpu().numpy()
            _check_finite(judged, number)
        search.tell(list(asked), list(-judged))  # it minimises
        if number >= len(before):
            yield Generation(number, tuple(judged.tolist()), mark, centre(search))


def centre(search: Any) -> Tensor:
    """The mean of a search: `p`."""
    return torch.from_numpy(np.asarray(search.mean, np.float32).copy())


@torch.no_grad()
def dream_returns(
    world: WorldModel, starts: State, controllers: Controllers, horizon: int, rng: Generator | None = None
) -> Tensor:
    """The rewards that each controller is told in the dream, summed, from each of the starts `r ...`: `n r`.

    All n · r dreams are one batch. A reward counts as much as it is likely that the dream has not ended before; later
    ones count no less. With
    `rng` the dreams are drawn, without it each step is the most likely. Raises `UserError` for a model that tells no
    reward.
    """
    n = len(controllers.weights)
    r = next(iter(starts.values())).shape[0]
    state = {name: value.repeat(n, *[1] * (value.ndim - 1)) for name, value in starts.items()}  # (n r) ...
    total = alive = None
    for _ in range(horizon):
        state = world.predict(state, controllers(state), rng)
        reward, goes_on = world.prospects(state)
        total = reward if total is None or alive is None else total + alive * reward
        goes_on = (goes_on / world.discount()).clamp(max=1)
        alive = goes_on if alive is None else alive * goes_on
    assert total is not None, "a dream has at least one step"
    return total.unflatten(0, (n, r))


def _search(size: int, config: CMAConfig) -> Any:
    """The library's strategy, with random numbers of its own: nobody else's draws may disturb it."""
    try:
        import cma  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise UserError('evolution needs the package cma: pip install "innerworld[evolve]"') from None
    rng = np.random.default_rng(config.seed)

    def normal(*shape: int) -> NDArray[np.float64]:
        return rng.standard_normal(shape)

    settings = {
        "popsize": config.population,
        "CMA_diagonal": config.diagonal,
        "randn": normal,
        "seed": np.nan,  # it would seed numpy's global state
        "verbose": -9,
    }
    return cma.CMAEvolutionStrategy(np.zeros(size), config.sigma, settings)


def _check_known(known: Generation, mark: float, config: CMAConfig) -> None:
    if len(known.fitness) != config.population or abs(known.mark - mark) > SAME * (1 + abs(mark)):
        raise UserError(
            f"the search draws other controllers in generation {known.number} than it did before (another release of "
            "cma, or another machine?): evolve anew in another folder"
        )


def _check_finite(judged: NDArray[np.float64], number: int) -> None:
    if not np.isfinite(judged).all():
        raise UserError(
            f"generation {number}: the fitness of {int((~np.isfinite(judged)).sum())} controllers is not finite: "
            "dream shorter, or mend the model"
        )
