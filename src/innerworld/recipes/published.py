"""How papers let their models reach goals: search, cost, limits and goals of each, under the paper's name."""

from __future__ import annotations

from innerworld.agent import AgentConfig
from innerworld.plan import CEM, MPPI, Gradient, Limits, Planner
from innerworld.recipes.two_rooms import Control


def _as_in(search: str, planner: Planner, agent: AgentConfig, budget: int = 50, offset: int | None = None) -> Control:
    """Every plan searches as much as the first; with an `offset`, start and goal are of one demonstration."""
    return Control(
        search=search,
        planner=planner.model_dump(),
        rounds_again=planner.model_dump()["rounds"],
        agent=agent,
        budget=budget,
        goals="two_episodes" if offset is None else "one_episode",
        goal_offset=offset or 25,
    )


WHOLE = AgentConfig(shape="last", power=1.0, execute=5)
"""The last imagined step counts, and all 5 blocks of a plan are executed (frame_skip=5 in training)."""
SUMMED = AgentConfig(shape="mean", power=1.0)

PUBLISHED: dict[str, Control] = {
    "lewm": _as_in("cem", CEM.presets["lewm"], WHOLE, offset=25),
    "dino_wm": _as_in("cem", CEM.presets["dino_wm"], WHOLE, offset=25),
    "dino_wm_gd": _as_in("gradient", Gradient.presets["dino_wm"], WHOLE, offset=25),
    "vjepa2_ac": _as_in(
        "cem",
        CEM.presets["vjepa2_ac"],
        AgentConfig(shape="last", power=1.0, limits=Limits.presets["vjepa2_ac"]),
    ),
    "pldm": _as_in("mppi", MPPI.presets["pldm"], SUMMED, budget=200),
    "eb_jepa_cem": _as_in("cem", CEM.presets["eb_jepa"], SUMMED, budget=200),
    "eb_jepa": _as_in("mppi", MPPI.presets["eb_jepa"], SUMMED, budget=200),
}
"""For `innerworld evaluate --planner`; what is known of each setting stands at the planner's preset."""
