"""A mind around a world model: six modules, each of which can be replaced.

`Agent` puts them together; `modules` says what is asked of each, the other files are what there is of them.
"""

from __future__ import annotations

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.configurator import Director, DirectorConfig
from innerworld.agent.cost import Cost, goal_cost, weights
from innerworld.agent.critic import TrainableCritic, TrainableCriticConfig
from innerworld.agent.ensemble import Ensemble
from innerworld.agent.explain import Explanation
from innerworld.agent.foresight import Members, OneFuture, Sampled
from innerworld.agent.guardrail import Guardrail
from innerworld.agent.learning import OnTheJob, OnTheJobConfig
from innerworld.agent.levels import Levels, TwoLevels, UpperConfig
from innerworld.agent.memory import MemoryConfig, ShortTermMemory
from innerworld.agent.monitors import Milestone, MilestoneConfig, Monitor, Stuck, StuckConfig
from innerworld.agent.perception import Senses, SensesConfig
from innerworld.agent.phrases import Phrases
from innerworld.agent.react import Reactor
from innerworld.agent.searcher import Searcher
from innerworld.agent.tasks import Avoid, Maximise, Reach, Say, Stay, Steps, Task, Weighted
from innerworld.agent.terms import Effort, End, Forbidden, GoalEnergy, Jerk, JointLimits, Reward, Term
from innerworld.agent.waypoints import Waypoints, WaypointsConfig

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
