"""A mind around a world model: what it believes, what it wants, what it does."""

from __future__ import annotations

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.cost import goal_cost, weights
from innerworld.agent.react import Reactor
from innerworld.agent.two_levels import TwoLevelAgent, TwoLevels, UpperConfig

__all__ = ["Agent", "AgentConfig", "Reactor", "TwoLevelAgent", "TwoLevels", "UpperConfig", "goal_cost", "weights"]
