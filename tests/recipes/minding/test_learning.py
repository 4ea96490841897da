"""Learning on the job from the command line: the changed run is a run, the given one stays, and it goes on exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from innerworld import checkpoint
from innerworld.agent import OnTheJobConfig
from innerworld.errors import UserError
from innerworld.recipes.lesson import read
from innerworld.recipes.minding import learning as keeping
from innerworld.recipes.minding.learning import Learning, critic_file
from innerworld.recipes.minding.modules import Furnishing
from innerworld.recipes.minding.run import Errand, run_agent
from innerworld.recipes.runs import read_state
from innerworld.recipes.two_rooms import Control

QUICK = OnTheJobConfig(every=3, steps=2, batch=8, length=2, least=2, ruin=None, critic_steps=5)


def weights(run: Path) -> dict[str, Tensor]:
    return checkpoint.load(run).state_dict()


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def files(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def learns(
    run: Path, out: Path, control: Control, episodes: int = 2, goal: str = "8,20", **more: Any
) -> dict[str, Any]:
    errand = Errand(str(run), goal, learning=Learning(QUICK, **more), seed=3)
    return run_agent(errand, control, episodes, out, quiet=True, command="the command")


def test_the_changed_run_is_a_run_and_the_given_one_stays(run: Path, control: Control, tmp_path: Path) -> None:
    before, out = files(run), tmp_path / "learnt"
    found = learns(run, out, control)
    assert files(run) == before and not same(run, out)
    learnt = found["learnt"]
    assert learnt["updates"] == found["learnt"]["rows"][-1]["updates"] > 0 and not learnt["frozen"]
    for name in ("old, held out", "lived meanwhile"):
        assert all(one != other for one, other in learnt["knows"][name].values())
    assert learnt["optimiser_steps"] == 2 * learnt["updates"] and learnt["sights"] >= 4
    assert read(out).data == read(run).data and read_state(out).state == "done"
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 2 + learnt["optimiser_steps"] - 1
    assert json.loads((out / "run.json").read_text())["command"] == "the command"
    assert "What it learnt on the job" in (out / "agent.html").read_text("utf-8")
    assert run_agent(Errand(str(out)), control, 1, tmp_path / "again", quiet=True)["episodes"]  # it acts as any run


def test_it_goes_on_exactly_where_it_was_kept(
    run: Path, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = learns(run, whole, control, 3)
    learns(run, parts, control, 2)
    again = learns(run, parts, control, 3, resume=True)
    assert len(again["episodes"]) == 1 and again["learnt"]["rows"] == found["learnt"]["rows"]
    assert same(whole, parts) and again["learnt"]["knows"] == found["learnt"]["knows"]
    monkeypatch.setattr(keeping, "SAVED_EVERY_S", -1.0)  # it is kept after every episode
    kept, end = tmp_path / "kept", keeping.Job.end
    monkeypatch.setattr(keeping.Job, "end", lambda job, diary, last: (end(job, diary, last), _stop(job.rows)))
    with pytest.raises(KeyboardInterrupt):
        learns(run, kept, control, 3)
    monkeypatch.setattr(keeping.Job, "end", end)
    learns(run, kept, control, 3, resume=True)
    assert same(whole, kept) and len(list((kept / "on_the_job").iterdir())) == 1


def _stop(rows: list[Any]) -> None:
    if len(rows) == 2:
        raise KeyboardInterrupt


def test_frozen_nothing_changes(run: Path, control: Control, tmp_path: Path) -> None:
    found = learns(run, tmp_path / "frozen", control, 2, freeze_after=0)["learnt"]
    assert same(run, tmp_path / "frozen") and found["updates"] == 0 and found["frozen"]
    assert list(found["knows"]) == ["old, held out"]  # nothing was kept of what was lived
    assert all(one == other for one, other in found["knows"]["old, held out"].values())
    once, later = (
        learns(run, tmp_path / "once", control, 1),
        learns(run, tmp_path / "later", control, 3, freeze_after=1),
    )
    assert same(tmp_path / "once", tmp_path / "later") and once["learnt"]["updates"] > 0
    assert [row["frozen"] for row in later["learnt"]["rows"]] == [False, True, True]


def test_a_run_that_learnt_in_a_world_learns_rewards_and_a_critic(
    actor: Path, control: Control, tmp_path: Path
) -> None:
    out = tmp_path / "learnt"
    asked = Errand(str(actor), "reward", learning=Learning(QUICK), critic=True)
    found = run_agent(asked, control, 3, out, quiet=True)
    assert found["learnt"]["critic"] == "taught" and found["modules"]["cost"] == "reward, end, critic"
    assert list(found["learnt"]["knows"]) == ["lived meanwhile"]  # it has no store
    state = critic_file(out)
    assert state is not None and not same(actor, out)
    (ring,) = state.glob("learning-*.safetensors")
    rewards = load_file(ring)["experience.reward"]
    assert rewards.sum() == sum(episode["return"] for episode in found["episodes"])
    told = run_agent(Errand(str(out), "reward", critic=True), control, 1, tmp_path / "again", quiet=True)
    assert told["modules"]["cost"] == "reward, end, critic"
    with pytest.raises(UserError, match="no critic has learnt with cartpole"):
        run_agent(Errand(str(actor), "reward", critic=True), control, 1, tmp_path, quiet=True)


def test_with_a_deadline_it_learns_between_episodes(run_of_blocks: Path, control: Control, tmp_path: Path) -> None:
    lazy = Learning(QUICK.model_copy(update={"every": 1}))
    errand = Errand(str(run_of_blocks), "8,20", learning=lazy, furnishing=Furnishing(deadline_s=60))
    found = run_agent(errand, control.model_copy(update={"budget": 6}), 2, tmp_path / "out", quiet=True)
    assert found["learnt"]["rows"][-1]["updates"] == 2  # one after each


def test_mistakes_are_one_line_and_leave_nothing(run: Path, store: Path, control: Control, tmp_path: Path) -> None:
    out = tmp_path / "out"
    good = Errand(str(run), "8,20", learning=Learning(QUICK))
    cases = [
        (good, run, "give another folder than"),
        (replace(good, model="oracle", data=store), out, "true dynamics have nothing to learn"),
        (replace(good, learning=Learning(QUICK, resume=True)), out, "leave out --resume"),
        (replace(good, furnishing=Furnishing(guard="1,2,3")), out, "--guard reads the model's features"),
        (replace(good, furnishing=Furnishing(habit=run)), out, "--habit reads the model's features"),
        (replace(good, learning=Learning(QUICK.model_copy(update={"only": ("nose",)}))), out, "names no parameter"),
        (replace(good, learning=Learning(QUICK.model_copy(update={"length": 99}))), out, "99"),
    ]
    for errand, folder, said in cases:
        with pytest.raises(UserError, match=said) as error:
            run_agent(errand, control, 1, folder, quiet=True)
        assert "\n" not in str(error.value)
    assert not (out / "run.json").exists()
    learns(run, out, control, 1)
    for goal, resume, said in (
        ("8,20", False, "already holds a run"),
        ("8,20", True, "1 episodes are done already"),
        ("9,20", True, "was begun with goal=8,20, not 9,20"),
    ):
        with pytest.raises(UserError, match=said):
            learns(run, out, control, 1, goal, resume=resume)
    (out / "on_the_job.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        learns(run, out, control, 2, resume=True)
