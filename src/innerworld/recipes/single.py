"""What can be done with one taught model: judge it, and watch it plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerworld.cluster import Place
from innerworld.errors import UserError
from innerworld.evaluate.control import play
from innerworld.evaluate.judge import judge
from innerworld.log import progress
from innerworld.perception import ENCODERS
from innerworld.recipes.demo import finish
from innerworld.recipes.drawings import draw_all
from innerworld.recipes.goals import agent, draw_goals, goal_worlds
from innerworld.recipes.latents import look_at
from innerworld.recipes.lesson import episodes, read
from innerworld.recipes.pages import Judged, page, plan_page
from innerworld.recipes.stages import Outcome, examine, load_learner
from innerworld.recipes.training_page import evaluate_eyes
from innerworld.recipes.two_rooms import Control
from innerworld.report import write


def evaluate_run(
    folder: Path,
    data: Path | None,
    control: Control,
    seed: int,
    quiet: bool = False,
    command: str = "",
    place: Place | None = None,
    latents: bool = True,
    drawings: bool = True,
    changes: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge one taught model and let it reach goals where its world has any; report and numbers go into its folder.

    With a `place`, its workers share the goals; the results do not depend on how many they are. `latents`: the report
    also shows what its latents keep; eyes are judged by that alone. `drawings`: it also judges what the model draws,
    with `changes` such as `steps=1` to how it does (`Learns.sampling`).
    """
    if read(folder).family in ENCODERS:
        if changes:
            raise UserError(f"eyes draw nothing: leave out model.{changes[0]}")
        return evaluate_eyes(folder, data, seed, quiet, command)
    model, taught, store = load_learner(folder, data, changes)
    outcome = examine({taught.family: (model, taught)}, store, control, seed, quiet, place=place)
    lead = f"One model, {taught.family}, judged on {len(store):,} episodes of {store.meta.about.env or 'a log'}."
    if latents:
        look_at(outcome, {taught.family: taught}, store, seed, quiet)
    if drawings:
        draw_all(outcome, {taught.family: taught}, store, seed, quiet)
    judged = Judged(outcome, {taught.family: taught}, {taught.family: folder}, store, control, seed)
    made = page(f"innerworld: {folder.name}", lead, command, judged)
    told = {"folder": str(folder), "control": control.model_dump(mode="json"), "seed": seed, "changes": list(changes)}
    return finish(outcome, told, made, folder)


def plan_run(
    folder: Path, data: Path | None, control: Control, seed: int, quiet: bool = False, command: str = ""
) -> dict[str, Any]:
    """Let one taught model reach `control.episodes` held-out goals and draw each plan; writes `plan.html`.

    Raises `UserError` where the store's world has no goals or cannot be played.
    """
    model, taught, store = load_learner(folder, data)
    worlds = goal_worlds(store, control.episodes)
    learn, held_out = episodes(taught, store)
    outcome = Outcome({taught.family: model}, skips={taught.family: taught.frame_skip})
    outcome.knowledge[taught.family] = judge(model, store, learn, held_out, taught.frame_skip, seed)
    outcome.tasks = tasks = draw_goals(store, held_out, worlds, seed, control)
    with progress("reach goals", control.budget, quiet) as show:
        played = play(worlds, tasks, agent(model, control, taught.frame_skip), control.budget, seed, show)
    outcome.played[taught.family] = played
    judged = Judged(outcome, {taught.family: taught}, {taught.family: folder}, store, control, seed)
    made = plan_page(f"innerworld: {folder.name} plans", command, judged)
    report = write(made, folder / "plan.html")
    rows = [
        {
            "start": tasks.start[k].tolist(),
            "goal": tasks.goal[k].tolist(),
            "reached": bool(played.success[k]),
            "steps": int(played.steps[k]),
            # Where it was not reached: the least energy to it, relative to the start's; 1: it never came nearer.
            "closest": None if played.closest is None or played.success[k] else float(played.closest[k]),
        }
        for k in range(len(played.success))
    ]
    return {"report": str(report), "plan_ms": played.plan_ms, "episodes": rows}
