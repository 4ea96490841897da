"""The import arrows of docs/architecture.md: who may know whom, as one table; a new room needs its line in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "innerworld"
FILES = sorted(SOURCE.rglob("*.py"))

GROUND = {"types", "config", "errors", "disk", "saved", "lock", "activity", "space", "version"}
LAYERS = GROUND | {"nn", "losses", "team"}
LEARNING = LAYERS | {"learns"}
MIND = LEARNING | {"world"}

MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "disk": {"errors"},
    "saved": {"disk", "errors"},
    "lock": {"errors"},
    "activity": set(),
    "space": {"errors"},
    "config": {"errors"},
    "types": {"errors"},
    "nn": GROUND,
    "team": {"errors"},
    "losses": GROUND | {"team"},
    "energy": GROUND,  # mathematics of functions of tensors: a model comes to it as a function
    "learns": GROUND,
    "world": LEARNING,
    # One floor of rooms that do not see each other: models know no planner, environment or data; plan knows no model;
    # data and envs know no model. An encoder is a part of a model; importers shrink pictures as environments do.
    "perception": LEARNING,
    "models": MIND | {"perception"},
    "families": MIND | {"perception", "models"},
    "policy": MIND,
    "plan": GROUND | {"energy"},
    "envs": GROUND,
    "data": GROUND | {"envs"},
    # Training knows what learns and no family (of nn, schedules); a log and a report know but what they are told.
    "log": GROUND,
    "cluster": GROUND,  # runs jobs, whatever they are
    "report": GROUND,
    "checkpoint": GROUND | {"learns", "team"},
    "training": GROUND | {"learns", "team", "checkpoint", "log", "nn"},
    "agent": MIND | {"energy", "plan", "policy"},
    "evaluate": MIND | {"energy", "plan", "policy", "data", "envs", "agent"},
    "testing": MIND | {"perception", "plan", "envs", "data", "agent"},
}
# A recipe puts everything together, the command line calls recipes, and the package lends its names (late, PEP 562).
MAY_IMPORT["recipes"] = set(MAY_IMPORT) - {"testing"}
MAY_IMPORT["cli"] = {*MAY_IMPORT, "recipes", "__init__"}
MAY_IMPORT["__init__"] = MAY_IMPORT["cli"] | {"cli"}
MAY_IMPORT["__main__"] = {"cli"}

EXCEPTIONS = {
    ("checkpoint/header.py", "families"): "a checkpoint names its family, which is looked up when it is loaded",
    ("models/dreamer_config.py", "policy"): "the settings of who acts are among those of the family",
    ("models/dreamer.py", "policy"): "a world model, and who learns to act in it: one family under one name",
    ("models/codec_config.py", "checkpoint"): "a tokenizer that is borrowed is that of a run",
    ("models/eyes.py", "checkpoint"): "eyes that are borrowed may be those of a run",
    ("models/hjepa.py", "checkpoint"): "the level below may be that of a run",
    ("models/video_control.py", "checkpoint"): "a trunk that gets a control branch may be that of a run",
    ("testing/world_model.py", "checkpoint"): "the public check saves and loads the model that it is given",
}
LATE = {("checkpoint/header.py", "families")}  # allowed inside a function only, or importing would go round in a circle


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_imports_point_downwards(file: Path) -> None:
    name = file.relative_to(SOURCE).as_posix()
    wrong = [
        f"{name}:{line} imports {room}"
        for room, line, _ in _imports(file.read_text(encoding="utf-8"))
        if room not in _allowed(name) and (name, room) not in EXCEPTIONS
    ]
    assert not wrong, f"{wrong}: {_room(name)} may import {sorted(_allowed(name))} (docs/architecture.md)"


def test_exceptions_are_needed_and_late_where_they_must_be() -> None:
    for name, room in EXCEPTIONS:
        used = [late for found, _, late in _imports((SOURCE / name).read_text(encoding="utf-8")) if found == room]
        assert used, f"{name} no longer imports {room}: take the exception out of the table"
        assert all(used) or (name, room) not in LATE, f"{name} imports {room} at the top: do it where it is needed"


def test_the_table_has_no_circle() -> None:
    """Rooms can be put into one order, in which each imports only what comes before it."""
    left = {room: set(allowed) for room, allowed in MAY_IMPORT.items() if room != "__init__"}
    left["cli"].discard("__init__")  # for the version
    while left:
        free = [room for room, allowed in left.items() if not allowed & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_a_violation_is_found() -> None:
    source = "from innerworld import losses, plan\ndef f():\n    import innerworld.data.store.store\n"
    found = [(room, line, late) for room, line, late in _imports(source) if room not in _allowed("models/mine.py")]
    assert found == [("plan", 1, False), ("data", 3, True)]


def _allowed(name: str) -> set[str]:
    room = _room(name)
    assert room in MAY_IMPORT, f"{room} is a new room: say in this file's table what it may import"
    return MAY_IMPORT[room] | {room}


def _room(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def _imports(source: str) -> Iterator[tuple[str, int, bool]]:
    """Each room of innerworld that is imported, the line, and whether that is inside a function."""
    tree = ast.parse(source)
    late = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in _modules(node):
                first, _, rest = module.partition(".")
                if first == "innerworld":
                    yield rest.split(".")[0] or "__init__", node.lineno, id(node) in late


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "relative imports are not used here: write the whole name"
    if node.module != "innerworld":
        return [node.module or ""]
    return [f"innerworld.{alias.name}" if _is_room(alias.name) else "innerworld" for alias in node.names]


def _is_room(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()
