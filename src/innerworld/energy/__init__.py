"""Energy as mathematics: inferred (descended, sampled, several answers), shaped and drawn; it knows no model.

An energy is a function: points in, one number for each out. A model's becomes one by a few words: `of_plans` of a cost
of actions, `latents` of a function of beliefs. The words are those of LeCun et al. 2006 (A Tutorial on Energy-Based
Learning) and LeCun 2022 (A Path Towards Autonomous Machine Intelligence).
"""

from __future__ import annotations

from innerworld.energy.descend import Descent, descend
from innerworld.energy.landscape import (
    Landscape,
    action_landscape,
    belief_landscape,
    landscape,
    plan_landscape,
    principal,
)
from innerworld.energy.langevin import Chains, annealed, langevin
from innerworld.energy.latents import Latents, infer, latents
from innerworld.energy.minima import Minima, free_energy, minima
from innerworld.energy.scalar import Energy, box, of_plans, slope, values
from innerworld.energy.shaping import (
    divergence,
    hinge,
    info_nce,
    joint,
    nearest_code,
    reconstruction,
    separation,
    sparse,
    square_square,
)

__all__ = [
    "Chains",
    "Descent",
    "Energy",
    "Landscape",
    "Latents",
    "Minima",
    "action_landscape",
    "annealed",
    "belief_landscape",
    "box",
    "descend",
    "divergence",
    "free_energy",
    "hinge",
    "infer",
    "info_nce",
    "joint",
    "landscape",
    "langevin",
    "latents",
    "minima",
    "nearest_code",
    "of_plans",
    "plan_landscape",
    "principal",
    "reconstruction",
    "separation",
    "slope",
    "sparse",
    "square_square",
    "values",
]
