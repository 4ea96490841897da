"""Two processes under Ray Train learn what one learns."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

MISSING = [name for name in ("ray", "pandas") if find_spec(name) is None]  # of what ray[train] brings
SCRIPT = """
import json, sys
from functools import partial
from pathlib import Path
from innerworld import models
from innerworld.cluster.ray_train import together
from innerworld.data import Store
from innerworld.recipes.lesson import Lesson, teach
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

if __name__ == "__main__":
    home = Path(sys.argv[1])
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    store = Store.create(home / "data", spec)
    for seed in range(10):
        store.add(random_clip(spec, 1, 9, seed))
    model = models.config("jepa", None, ["channels=2", "latent=4", "hidden=8"]).model_dump(mode="json")
    train = {"steps": 3, "log_every": 1, "device": "cpu", "threads": 1}
    lesson = Lesson(data=str(home / "data"), batch=4, length=3, model=model, train=train)
    together(partial(teach, lesson, home / "two", True), 2, home / "ray")
    teach(lesson, home / "one", quiet=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"ray.train needs {', '.join(MISSING)}: pip install ray[train]")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = ((tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert json.loads(a)["loss"] == pytest.approx(json.loads(b)["loss"], abs=1e-5)
