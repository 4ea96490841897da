"""The whole comparison: collect what is missing, teach and ask every run wherever there is room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from innerworld.cluster import Place
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.recipes.compare.cell import data_folder, fail, gather, is_answered, sit
from innerworld.recipes.compare.plan import Cell, Plan, World

Shown = Callable[[int], None]


def collections(plan: Plan, home: Path) -> list[tuple[World, int]]:
    """The worlds and seeds that are still to be collected."""
    wanted = [(world, seed) for world in plan.worlds if not world.store for seed in plan.numbers()]
    return [(world, seed) for world, seed in wanted if not (data_folder(home, world, seed) / "meta.json").exists()]


def open_cells(plan: Plan, home: Path) -> list[Cell]:
    """The runs of which a question is still open, also because it failed."""
    return [cell for cell in plan.cells() if not all(is_answered(home, cell, name) for name in plan.questions)]


def compete(plan: Plan, folder: Path, place: Place, command: str = "", progress: Shown = lambda done: None) -> None:
    """Do all that is missing; what is done stays as it is, and a run that was interrupted goes on.

    A run that fails stops no other: the answers that it owes say why. `progress` is told the runs done. Raises
    `UserError` for Ctrl-C, and while another process does the same in this folder.
    """
    home = folder.resolve()  # workers may stand elsewhere
    with lock(home, "comparison"):
        try:
            failed = _collect(plan, home, place)
            _ask(plan, home, place, command, progress, failed)
        except KeyboardInterrupt:
            left = len(open_cells(plan, home))
            raise UserError(
                f"interrupted: {len(plan.cells()) - left} of {len(plan.cells())} runs are done; "
                f"go on with innerworld compare --resume --out {folder}"
            ) from None


def _collect(plan: Plan, home: Path, place: Place) -> dict[tuple[str, int], str]:
    """Collect what is missing; of what could not be collected, why."""
    jobs = collections(plan, home)
    failed: dict[tuple[str, int], str] = {}
    if not jobs:
        return failed
    with closing(place.each(partial(gather, home, plan), jobs)) as ended:
        for done in ended:
            if done.failure is not None:
                world, seed = jobs[done.index]
                failed[world.name, seed] = f"collecting {world.name}: {done.failure.line}"
    return failed


def _ask(
    plan: Plan, home: Path, place: Place, command: str, progress: Shown, failed: dict[tuple[str, int], str]
) -> None:
    cells, due = plan.cells(), []
    for cell in open_cells(plan, home):
        why = failed.get((cell.world.name, cell.seed))
        if why is None:
            due.append(cell)
        else:
            fail(home, cell, plan.questions, why)
    finished = len(cells) - len(due)
    progress(finished)
    if not due:
        return
    with closing(place.each(partial(sit, home, plan, command), due)) as ended:
        for done in ended:
            if done.failure is not None:  # its worker died
                fail(home, due[done.index], plan.questions, done.failure.line)
            finished += 1
            progress(finished)
