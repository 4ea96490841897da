"""Planners: a cost of actions in, a plan out; none of them knows a model. To add one: write its file, add its line."""

from __future__ import annotations

from innerworld.plan.cem import CEM
from innerworld.plan.constraints import Constraint, Limits, free
from innerworld.plan.gradient import Gradient
from innerworld.plan.icem import ICEM
from innerworld.plan.mppi import MPPI
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, cold, generators, shift
from innerworld.plan.random_shooting import RandomShooting

PLANNERS: dict[str, type[Planner]] = {
    "random": RandomShooting,
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "gradient": Gradient,
}
"""The planners there are; the first line of each class's docstring says what it is."""

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "PLANNERS",
    "Constraint",
    "Cost",
    "Gradient",
    "Limits",
    "Plan",
    "Planner",
    "RandomShooting",
    "cold",
    "coloured",
    "free",
    "generators",
    "shift",
]
