"""Actors that act from a belief: learnt in imagination (`ActorCritic`), or evolved (`evolution`, `controller`)."""

from __future__ import annotations

from innerworld.policy.actor import Actor, ActorConfig, Choice
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.controller import Controllers
from innerworld.policy.critic import Critic, CriticConfig
from innerworld.policy.evolution import CMAConfig, dream_returns, evolve
from innerworld.policy.returns import ReturnScale, lambda_returns, lived_returns

__all__ = [
    "Actor",
    "ActorConfig",
    "ActorCritic",
    "ActorCriticConfig",
    "CMAConfig",
    "Choice",
    "Controllers",
    "Critic",
    "CriticConfig",
    "ReturnScale",
    "dream_returns",
    "evolve",
    "lambda_returns",
    "lived_returns",
]
