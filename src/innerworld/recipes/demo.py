"""The demo, start to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from innerworld.config import differences
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.recipes.drawings import draw_all
from innerworld.recipes.latents import look_at
from innerworld.recipes.pages import Judged, page
from innerworld.recipes.stages import Outcome, educate, examine, gather, lesson, own_controls, write_results
from innerworld.recipes.two_rooms import Run
from innerworld.report import write

LEAD = (
    "A machine watched a small world, learnt to foresee what its actions bring, and was asked to reach goals by "
    "imagining. Two schools of world models stand side by side, taught from the same episodes."
)


def demo(run: Run, folder: Path, quiet: bool = False, command: str = "innerworld demo") -> dict[str, Any]:
    """Collect, teach, judge, show: writes `results.json` and `report.html` into `folder`, returns the numbers.

    Called again for the same folder and run, it goes on where it was interrupted. Raises `UserError`, among others when
    the folder holds another run.
    """
    _claim(run, folder)
    store = gather(run, folder, quiet)
    taught = educate(run, folder, quiet, command)
    lessons = {name: lesson(run, name, folder) for name in run.schools}
    learners = {name: (model, lessons[name]) for name, model in taught.items()}
    own = own_controls(run)
    outcome = examine(learners, store, run.control, run.seed, quiet, own)
    look_at(outcome, lessons, store, run.seed, quiet)
    draw_all(outcome, lessons, store, run.seed, quiet)
    folders = {name: folder / name for name in run.schools}
    judged = Judged(outcome, lessons, folders, store, run.control, run.seed, own)
    made = page(f"innerworld: {run.env}", LEAD, command, judged)
    return finish(outcome, run.model_dump(mode="json"), made, folder)


def finish(outcome: Outcome, run: dict[str, Any], made: Any, folder: Path) -> dict[str, Any]:
    write_results(outcome, run, folder / "results.json")
    report = write(made, folder / "report.html")
    return {"report": str(report), "results": outcome.results(), "untried": outcome.untried}


def _claim(run: Run, folder: Path) -> None:
    """Note what run this folder is of; refuse one that holds another."""
    path = folder / "demo.json"
    now = run.model_dump(mode="json")
    if path.exists():
        for key, was, wanted in differences(_read(path), now):
            raise UserError(f"{folder} was begun with {key}={was}, not {wanted}: give that, or another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, [json.dumps(now, indent=2).encode()])


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}. Delete its folder, or give another --out") from None
    if not isinstance(values, dict):
        raise UserError(f"cannot read {path}: it is not a JSON object")
    return values
