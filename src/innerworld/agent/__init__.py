"""A mind around a world model: six modules, each of which can be replaced.

`Agent` puts them together; `modules` says what is asked of each, the other files are what there is of them.
"""

from __future__ import annotations

from innerworld.agent.actor.react import Reactor
from innerworld.agent.actor.searcher import Searcher
from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.configurator.director import Director, DirectorConfig
from innerworld.agent.configurator.levels import Levels, TwoLevels, UpperConfig
from innerworld.agent.configurator.monitors import Milestone, MilestoneConfig, Monitor, Stuck, StuckConfig
from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.tasks import Avoid, Maximise, Reach, Say, Stay, Steps, Task, Weighted
from innerworld.agent.configurator.waypoints import Waypoints, WaypointsConfig
from innerworld.agent.cost.cost import Cost, goal_cost, weights
from innerworld.agent.cost.critic import TrainableCritic, TrainableCriticConfig
from innerworld.agent.cost.guardrail import Guardrail
from innerworld.agent.cost.terms import Effort, End, Forbidden, GoalEnergy, Jerk, JointLimits, Reward, Term
from innerworld.agent.explain import Explanation
from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.agent.foresight.futures import Members, OneFuture, Sampled
from innerworld.agent.learning import OnTheJob, OnTheJobConfig
from innerworld.agent.memory.short_term import MemoryConfig, ShortTermMemory
from innerworld.agent.perception.senses import Senses, SensesConfig

__all__ = [
    "Agent",
    "AgentConfig",
    "Avoid",
    "Cost",
    "Director",
    "DirectorConfig",
    "Effort",
    "End",
    "Ensemble",
    "Explanation",
    "Forbidden",
    "GoalEnergy",
    "Guardrail",
    "Jerk",
    "JointLimits",
    "Levels",
    "Maximise",
    "Members",
    "MemoryConfig",
    "Milestone",
    "MilestoneConfig",
    "Monitor",
    "OnTheJob",
    "OnTheJobConfig",
    "OneFuture",
    "Phrases",
    "Reach",
    "Reactor",
    "Reward",
    "Sampled",
    "Say",
    "Searcher",
    "Senses",
    "SensesConfig",
    "ShortTermMemory",
    "Stay",
    "Steps",
    "Stuck",
    "StuckConfig",
    "Task",
    "Term",
    "TrainableCritic",
    "TrainableCriticConfig",
    "TwoLevels",
    "UpperConfig",
    "Waypoints",
    "WaypointsConfig",
    "Weighted",
    "goal_cost",
    "weights",
]
