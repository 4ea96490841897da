"""A mind around a world model: what it believes, what it wants, what it does."""

from __future__ import annotations

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.cost import goal_cost, weights

__all__ = ["Agent", "AgentConfig", "goal_cost", "weights"]
