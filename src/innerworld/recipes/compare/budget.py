"""Equal budgets: updates, CPU seconds or FLOPs, and how many updates that is for each."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

import torch

from innerworld import families
from innerworld.data import spec_of_skip
from innerworld.errors import UserError
from innerworld.recipes.compare.entry import Entry
from innerworld.recipes.cost import cost, noise
from innerworld.training.optimisers import build_optimiser
from innerworld.types import Spec

UNITS = {"updates": "updates", "s": "CPU seconds", "flops": "FLOPs"}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(updates|s|flops)", re.IGNORECASE)
WARM, TIMED = 2, 5  # updates


@dataclass(frozen=True)
class Budget:
    """So much of one of `UNITS`, for each entry on each world."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:g} {UNITS[self.unit]}"


def read_budget(text: str) -> Budget:
    """`300updates`, `120s` or `1e12flops`. Raises `UserError`."""
    told = AMOUNT.fullmatch(text.strip())
    if told is None or float(told[1]) <= 0 or not math.isfinite(float(told[1])):
        raise UserError(f"cannot read the budget {text!r}: write 300updates, 120s or 1e12flops")
    budget = Budget(float(told[1]), told[2].lower())
    if budget.unit == "updates" and budget.amount != int(budget.amount):
        raise UserError(f"the budget {text!r} is no whole number of updates")
    return budget


def price(budget: Budget, entry: Entry, spec: Spec) -> float:
    """What one update costs in the budget's unit, as it is found now: 1, or CPU seconds, or FLOPs.

    `spec` is what the model sees. On noise, with the family as it is taught; on one thread.
    """
    seen = spec_of_skip(spec, entry.teaching.frame_skip)
    if budget.unit == "updates":
        return 1.0
    if budget.unit == "flops":
        return float(cost(entry.family, entry.model, seen, entry.teaching.batch, entry.teaching.length).flops)
    return _seconds(entry, seen)


def updates(budget: Budget, price: float, who: str) -> int:
    """How many the budget pays for. Raises `UserError` where that is none."""
    count = math.floor(budget.amount / price + 1e-9)
    if count < 1:
        unit = UNITS[budget.unit]
        raise UserError(f"{who}: one update takes {price:.3g} {unit}, the budget is {budget.amount:g}: give more")
    return count


def _seconds(entry: Entry, spec: Spec) -> float:
    """CPU seconds of an update, all its parts: the middle of some."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = families.build(entry.family, entry.model, spec)
            kind = families.FAMILIES[entry.family]
            clip = noise(spec, entry.teaching.batch, kind.actions_in(entry.teaching.length))
            optimiser = build_optimiser(model, entry.teaching.train)
            found = []
            for _ in range(WARM + TIMED):
                began = time.process_time()
                optimiser.zero_grad(set_to_none=True)
                model.loss(clip)[0].backward()
                optimiser.step()
                model.after_step()
                found.append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    return sorted(found[WARM:])[TIMED // 2]
