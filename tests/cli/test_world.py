"""`innerworld train FAMILY --env WORLD`: from flags to a run that resumes, is listed, judged, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.recipes.practice import read_practice

TINY = [
    *("model.world.deter=16", "model.world.hidden=8", "model.world.stoch=4", "model.world.units=8"),
    *("model.actor_critic.actor.units=8", "model.actor_critic.critic.units=8", "model.actor_critic.horizon=3"),
    *("online.batch=2", "online.length=6", "online.ratio=4", "online.prefill=20", "online.eval_episodes=2"),
    *("online.eval_every=2", "train.steps=4", "train.save_every=2", "train.log_every=1", "train.device=cpu"),
]


def _error(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("innerworld: ") and error.count("\n") == 1
    return error


@pytest.mark.slow
def test_train_resume_list_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = str(tmp_path / "r")
    begin = ["train", "--model", "dreamer-v3", "--env", "CartPole-v1", "--out", run]
    assert main([*begin, *TINY, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["env"], found["sensors"], found["steps"]) == ("CartPole-v1", ["state"], 4)
    assert found["last"]["env_steps"] == found["last"]["agent_steps"] == found["last"]["frames"] > 18
    assert (
        err.startswith("replay: ") and "MB on the disk" in err and "imagination: " in err and "train dreamer 4/4" in err
    )
    noted = read_practice(tmp_path / "r")
    assert (noted.train.optimiser, noted.train.agc, noted.train.lr, noted.train.clip_grad) == ("laprop", 0.3, 4e-5, 0)
    assert (noted.family, noted.model["world"]["deter"], noted.online.ratio) == ("dreamer", 16, 4)
    page = (tmp_path / "r" / "train.html").read_text()
    assert "CartPole-v1" in page and "environment steps" in page and "imagined_return" in page

    assert main(["train", "dreamer", "--out", run, "--resume", "train.steps=6", "--quiet", "--no-page"]) == 0
    assert capsys.readouterr().err == ""
    assert checkpoint.read_header(run).step == 6
    steps = [json.loads(line)["step"] for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(6))

    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["runs"]
    assert (listed["family"], listed["world"], listed["state"], listed["step"]) == ("dreamer", "CartPole-v1", "done", 6)

    assert main(["evaluate", run, "--episodes", "3", "--quiet", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert set(results) == {"policy", "drawn", "random", "best"}
    assert all(found["episodes"] == 3 and found["return"] >= 8 for found in results.values())
    assert json.loads((tmp_path / "r" / "returns.json").read_text())["results"] == results

    assert "was begun with --env CartPole-v1" in _error(
        capsys, ["train", "dreamer", "--env", "Acrobot-v1", "--out", run, "--resume"]
    )
    assert "was begun with online.length 6, not 7" in _error(
        capsys, ["train", "dreamer", "--out", run, "--resume", "online.length=7"]
    )
    assert "is a run of dreamer, not of jepa" in _error(capsys, ["train", "jepa", "--out", run, "--resume"])
    assert "already holds a run" in _error(capsys, [*begin, *TINY])

    second = str(tmp_path / "s")
    barely = ["train.steps=2", "train.lr=1e-12", "train.device=cpu"]
    online = [word for word in TINY if word.startswith("online.")]
    words = ["train", "dreamer", "--init-from", run, "--env", "CartPole-v1", "--out", second, "--quiet", "--no-page"]
    assert main([*words, *online, *barely, "online.eval_every=0"]) == 0
    noted = read_practice(second)
    assert (noted.init_from, noted.model["world"]["deter"], noted.online.sensors) == (run, 16, ("state",))
    before, after = (dict(checkpoint.load(folder).named_parameters()) for folder in (run, second))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
    assert main(["train", "dreamer", "--out", second, "--resume", "train.steps=3", "--quiet", "--no-page"]) == 0
    assert "was begun with --init-from" in _error(
        capsys, ["train", "dreamer", "--out", second, "--resume", "--init-from", "elsewhere"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dreamer", "--env", "CartPole-v1", "--data", "d"], "exclude each other"),
        (
            ["dreamer", "--env", "CartPole-v1", "--batch", "3"],
            "--batch is for a store, not for --env: say online.",
        ),
        (["dreamer", "--env", "CartPole-v1", "--devices", "2"], "works in one process"),
        (["jepa", "--env", "CartPole-v1"], "jepa does not learn in a world"),
        (["rssm", "--env", "CartPole-v1"], "RSSM has no policy to act with"),
        (["dreamer", "--env", "CartPol-v1"], "unknown environment 'CartPol-v1'. Did you mean 'CartPole-v1'?"),
        (["dreamer", "--env", "CartPole-v1", "--sensors", "eye"], "no sensor 'eye'"),
        (["dreamer", "--env", "CartPole-v1", "online.env=Acrobot-v1"], "leave out online.env"),
        (["dreamer", "--env", "CartPole-v1", "--sensors", "a", 'online.sensors=["b"]'], "leave out online.env"),
        (["dreamer", "--env", "CartPole-v1", "online.max_steps=0"], "online.max_steps"),
        (["dreamer", "--env", "CartPole-v1", "online.ration=3"], "unknown key 'online.ration'. Did you mean"),
        (["dreamer", "--env", "CartPole-v1", "ratio=3"], "Did you mean 'online.ratio'?"),
        (["dreamer", "--env", "CartPole-v1", "train.check_every=3"], "say online.eval_every="),
        (["dreamer"], "missing --data"),
        (["dreamer", "--data", "d", "online.ratio=3"], "is for a world, --env"),
        ([], "which family?"),
        (["dreamer", "--model", "dreamer-v3"], "not both"),
        (["--model", "dreamr-v3"], "unknown family 'dreamr'. Did you mean 'dreamer'?"),
        (["--model", "dreamer-v9", "--env", "CartPole-v1"], "unknown preset of dreamer 'v9'"),
        (["--model", "dreamer-v3", "--preset", "v3-12m"], "leave out one"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str):
    assert message in _error(capsys, ["train", *words, "--out", str(tmp_path / "r")])
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_help_lists_the_keys_of_a_world(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--model", "dreamer-v3", "--env", "CartPole-v1", "--help"]) == 0
    out = capsys.readouterr().out
    assert "online.ratio" in out and "laprop" in out and "model.world.deter" in out
