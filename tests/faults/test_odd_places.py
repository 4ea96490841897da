"""Folders with any name, through links, in any locale, with the clock set back: collect, verify, train, resume, export.

In processes of their own: a locale is chosen when Python begins.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODEL = ["model.channels=4", "model.latent=8", "model.hidden=16", "model.rollout=2", "train.device=cpu"]
RUN = """
import json, sys
from innerworld.cli import main
for words in json.loads(sys.argv[1]):
    if main([*words, "--json", "--quiet"]):
        sys.exit(f"failed: {words}")
"""
BACKWARDS = """
import time
now = [1_700_000_000.0]
def a_day_earlier_each_time():
    now[0] -= 86_400
    return now[0]
time.time = a_day_earlier_each_time
"""


def run(*calls: list[str], before: str = "", locale: str = "C", zone: str = "UTC") -> list[dict]:
    """What each command says, in one process."""
    told = {"LC_ALL": locale, "LANG": locale, "TZ": zone, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **told, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", before + RUN, json.dumps(calls, ensure_ascii=False)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def a_whole_life(folder: Path, **how: str) -> None:
    data, out, npz, again = (str(folder / name) for name in ("data", "run", "npz", "again"))
    collect = ["collect", "two_rooms", f"--out={data}", "--envs", "4", "--size", "32", "--max-steps", "4"]
    train = ["train", "jepa", f"--data={data}", f"--out={out}", "--length", "2", "--batch", "4", *MODEL]
    first = run([*collect, "--episodes", "12"], [*train, "train.steps=2"], **how)
    assert first[0]["episodes"] == 12
    then = run(
        [*collect, "--episodes", "4", "--append"],
        ["data", "verify", data],
        [*train, "train.steps=4", "--resume"],
        ["runs", str(folder)],
        ["data", "export", data, "--format", "npz", f"--out={npz}"],
        ["import", "npz", npz, f"--out={again}"],
        **how,
    )
    assert then[0]["episodes"] == then[5]["episodes"] == 16 and then[1]["faults"] == []
    assert [(each["state"], each["step"]) for each in then[3]["runs"]] == [("done", 4)]
    steps = [json.loads(line)["step"] for line in (folder / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 3


@pytest.mark.slow
def test_names_odd_and_long(tmp_path: Path) -> None:
    folder = tmp_path / "- é 日本 'und' \"so\" a=b, %s {0} $HOME" / ("x" * 200)
    folder.mkdir(parents=True)
    a_whole_life(folder)


@pytest.mark.slow
def test_a_linked_folder_in_another_zone_and_a_clock_that_runs_backwards(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there", target_is_directory=True)
    a_whole_life(tmp_path / "here", before=BACKWARDS, locale="C.UTF-8", zone="Pacific/Kiritimati")
    assert (tmp_path / "there" / "run" / "checkpoints").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_store_whose_name_is_not_unicode(tmp_path: Path) -> None:
    from innerworld.data import About, Store
    from innerworld.types import Spec

    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    Store.create(odd, Spec({"state": (1,)}, 1), About(env=odd.name))
    assert Store.open(odd).meta.about.env == odd.name
