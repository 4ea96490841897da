"""`innerworld train`: from flags to a run, resumed, refused, interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from innerworld import checkpoint
from innerworld.cli import main
from innerworld.cli import train as cli_train
from innerworld.data import Clips
from innerworld.errors import UserError
from innerworld.recipes.lesson import read

TINY = ["--batch", "4", "--length", "4", "--no-page"]
KEYS = ["model.latent=8", "model.channels=4", "model.rollout=2", "model.slices=16", "train.device=cpu"]


def _data(folder):
    words = ["--episodes", "12", "--envs", "4", "--size", "32", "--max-steps", "10", "--quiet"]
    assert main(["collect", "two_rooms", "--out", str(folder), *words]) == 0
    return str(folder)


def _words(tmp_path, *more):
    if not (tmp_path / "d").exists():
        _data(tmp_path / "d")
    return ["train", "jepa", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "r"), *TINY, *KEYS, *more]


def _lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_collect_train_resume(tmp_path, capsys):
    words = _words(tmp_path, "train.steps=3", "train.log_every=1", "--json")
    capsys.readouterr()
    assert main(words) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "train jepa 3/3" in err
    assert (found["steps"], found["sensors"]) == (3, ["pixels"])
    assert found["last"]["loss"] > 0 and "probe_r2" in found["last"]
    lesson = read(tmp_path / "r")
    assert (lesson.batch, lesson.length, lesson.model["latent"], lesson.train.steps) == (4, 4, 8, 3)
    assert checkpoint.load(tmp_path / "r").config.latent == 8

    assert (
        main(["train", "jepa", "--out", str(tmp_path / "r"), "--resume", "train.steps=5", "--quiet", "--no-page"]) == 0
    )
    assert capsys.readouterr().err == ""
    assert checkpoint.read_header(tmp_path / "r").step == 5
    assert [row["step"] for row in _lines(tmp_path / "r" / "log.jsonl")] == [0, 1, 2, 3, 4]


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path):
    words = _words(tmp_path, "train.log_every=1", "--quiet")
    whole = [str(tmp_path / "w") if word == str(tmp_path / "r") else word for word in words]
    torch.manual_seed(0)  # as at the beginning of a process, for the first weights
    assert main([*whole, "train.steps=4"]) == 0
    torch.manual_seed(0)
    assert main([*words, "train.steps=2"]) == 0
    assert main([*words, "train.steps=4", "--resume"]) == 0
    losses = [[row["loss"] for row in _lines(tmp_path / name / "log.jsonl")] for name in "wr"]
    assert losses[0] == losses[1]


def test_sensors_and_presets(tmp_path, capsys):
    words = ["train", "jepa", "--data", _data(tmp_path / "d"), "--out", str(tmp_path / "r"), *TINY]
    keys = ["model.hidden=16", "model.slices=16", "train.steps=1", "train.device=cpu"]
    capsys.readouterr()
    assert main([*words, *keys, "--sensors", "state", "layout", "--preset", "none", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["sensors"] == ["state", "layout"]
    assert read(tmp_path / "r").model["inverse"] == 0.0  # 1 in the preset `small`


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--data", "nowhere"], "nowhere is no store of experience"),
        (["--preset", "smal"], "unknown preset of jepa 'smal'. Did you mean 'small'?"),
        (["--sensors", "pixel"], "no sensor 'pixel' here. Did you mean 'pixels'?"),
        (["--batch", "0"], "batch: input should be greater than or equal to 1"),
        (["--length", "400"], "no episode has the 400 actions"),
        (["--batsh", "3"], "Did you mean '--batch'?"),
        (["model.latnt=3"], "unknown key 'model.latnt'. Did you mean 'model.latent'?"),
        (["steps=3"], "unknown key 'steps'. Did you mean 'train.steps'?"),
        (["train.steps=few"], "train.steps: input should be a valid integer"),
        (["train.device=cda"], "train.device: input should be 'auto', 'cpu', 'cuda' or 'mps'"),
        (["--watch", "state"], "has no flag --watch"),
    ],
)
def test_train_refuses_before_it_makes_a_folder(more, told, tmp_path, capsys):
    assert main(_words(tmp_path, *more)) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("family", "told"),
    [("jpa", "unknown family 'jpa'. Did you mean 'jepa'?"), ("oracle", "the oracle needs a world's true dynamics")],
)
def test_families_that_cannot_be_taught(family, told, tmp_path, capsys):
    words = ["train", family, "--data", _data(tmp_path / "d"), "--out", str(tmp_path / "r"), *TINY]
    assert main(words) == 2
    assert told in capsys.readouterr().err
    assert main(["train", "jepa", "--out", str(tmp_path / "r")]) == 2
    assert "missing --data" in capsys.readouterr().err


def test_a_run_is_not_overwritten(tmp_path, capsys):
    words = _words(tmp_path, "train.steps=1", "--quiet")
    assert main(words) == 0
    before = (tmp_path / "r" / "run.json").read_bytes()
    assert main([*words, "model.latent=9"]) == 2
    assert "already holds a run: continue it with --resume" in capsys.readouterr().err
    assert (tmp_path / "r" / "run.json").read_bytes() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that is not here")
def test_a_run_that_failed_before_it_began_can_be_begun_again(tmp_path, capsys):
    words = _words(tmp_path, "train.steps=1", "--quiet")
    assert main([*words, "train.device=cuda"]) == 2
    assert "no cuda device here" in capsys.readouterr().err
    assert main(words) == 0


def test_resume_refuses_what_differs(tmp_path, capsys):
    assert main(_words(tmp_path, "train.steps=1", "--quiet")) == 0
    resume = ["train", "jepa", "--out", str(tmp_path / "r"), "--resume", "--quiet"]
    for more, told in [
        (["--batch", "8"], "was begun with --batch 4, not 8: leave out --batch"),
        (["--frame-skip", "2"], "--frame-skip 1, not 2"),
        (["model.latent=9"], "model.latent 8, not 9"),
        (["train.lr=0.1"], "train.lr 0.0003, not 0.1"),
        (["--preset", "none"], "was begun with model."),
    ]:
        assert main([*resume, *more]) == 2
        assert told in capsys.readouterr().err
    assert main(["train", "rssm", *resume[2:]]) == 2
    assert "is a run of jepa, not of rssm" in capsys.readouterr().err
    assert main([*resume, "--batch", "4", "model.latent=8"]) == 0
    assert main(["train", "jepa", "--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_truncated_shard_is_named(tmp_path, capsys):
    words = _words(tmp_path)
    shard = next(tmp_path.glob("d/shards/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert main(words) == 2
    err = capsys.readouterr().err
    assert str(shard) in err and "truncated" in err


def test_ctrl_c_saves_and_resume_goes_on(tmp_path, capsys, monkeypatch):
    words = _words(tmp_path, "train.steps=5", "--workers", "0", "--quiet")
    draw = Clips.batch

    def stops(clips, step):
        if step == 2:
            raise KeyboardInterrupt
        return draw(clips, step)

    monkeypatch.setattr(Clips, "batch", stops)
    assert main(words) == 130
    assert capsys.readouterr().err == "innerworld: interrupted at step 2: continue with --resume\n"
    monkeypatch.undo()
    assert checkpoint.read_header(tmp_path / "r").step == 2
    assert main([*words, "--resume"]) == 0
    assert checkpoint.read_header(tmp_path / "r").step == 5


@pytest.mark.slow
def test_sigint_in_a_process_of_its_own(tmp_path):
    words = _words(tmp_path, "train.steps=1000000")
    process = subprocess.Popen([sys.executable, "-m", "innerworld", *words], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "r" / "log.jsonl"
    while not (log.exists() and log.stat().st_size) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err and "continue with --resume" in err.splitlines()[-1]
    done = checkpoint.read_header(tmp_path / "r").step
    assert main(["train", "jepa", "--out", str(tmp_path / "r"), "--resume", f"train.steps={done + 1}"]) == 0


@pytest.mark.slow
def test_two_devices_speak_with_one_voice(tmp_path, capfd):
    words = _words(tmp_path, "train.steps=3", "train.log_every=1", "--devices", "2", "--json")
    capfd.readouterr()
    assert main([*words, "--strategy", "fsdp"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["steps"] == 3  # once
    assert err.count("train jepa 3/3") == 1
    assert main([*words, "--strategy", "ddp"]) == 2
    assert capfd.readouterr().err.count("already holds a run") == 1
    odd = [str(tmp_path / "odd") if word == str(tmp_path / "r") else word for word in words]
    assert main([*odd, "--batch", "5"]) == 2
    assert "--batch 5 cannot be shared evenly by 2 processes" in capfd.readouterr().err


@pytest.mark.slow
def test_eyes_are_trained_and_borrowed(tmp_path, capsys):
    words = ["--data", _data(tmp_path / "d"), *TINY, "train.device=cpu", "train.steps=1", "--quiet", "--json"]
    capsys.readouterr()
    assert main(["train", "vjepa2", "--out", str(tmp_path / "eyes"), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["family"] == "vjepa2" and {"uniformity", "alignment", "probe_r2"} <= found["last"].keys()
    assert read(tmp_path / "eyes").model["vit"]["dim"] == 96  # of the preset `tiny`
    assert main(["train", "vjepa2", "--out", str(tmp_path / "eyes"), "--resume", "train.steps=2", "--quiet"]) == 0
    assert checkpoint.read_header(tmp_path / "eyes").step == 2
    assert "nearest neighbours" in (tmp_path / "eyes" / "train.html").read_text(encoding="utf-8")

    borrowed = ["model.slices=8", f"model.eyes.checkpoint={tmp_path / 'eyes'}"]
    assert main(["train", "jepa", "--out", str(tmp_path / "r"), *words, *borrowed]) == 0
    assert read(tmp_path / "r").model["eyes"]["vit"]["dim"] == 96
    assert main(["train", "jepa", "--out", str(tmp_path / "r"), "--resume", "--no-page", "train.steps=2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "eyes"), "--json", "--quiet"]) == 0
    assert {"effective_rank", "decoded_r2"} <= json.loads(capsys.readouterr().out)["results"]["vjepa2"].keys()
    assert main(["plan", str(tmp_path / "eyes")]) == 2
    assert "holds a 'vjepa2', which is no WorldModel" in capsys.readouterr().err


def test_a_page_is_written_unless_told_not_to_and_never_costs_the_run(tmp_path, capsys, caplog, monkeypatch):
    words = _words(tmp_path, "train.steps=1", "--quiet", "--json")
    capsys.readouterr()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["page"] is None and not (tmp_path / "r" / "train.html").exists()
    again = ["train", "jepa", "--out", str(tmp_path / "r"), "--resume", "--quiet", "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(tmp_path / "r" / "train.html")
    assert "innerworld train jepa" in (tmp_path / "r" / "train.html").read_text(encoding="utf-8")

    def full(*given):
        raise UserError("the disk is full")

    monkeypatch.setattr(cli_train, "show_training", full)
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["page"] is None
    assert "no train.html was written: the disk is full" in caplog.text


def test_help_of_eyes_is_that_of_their_small_preset(capsys):
    assert main(["train", "vjepa2", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--preset tiny" in out and "model.vit.dim" in out


def test_help_lists_every_key(capsys):
    assert main(["train", "jepa", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--frame-skip" in out
    model, steps = (
        next(line for line in out.splitlines() if line.startswith(key)) for key in ("model.image", "train.steps")
    )
    assert model.split()[:3] == ["model.image_size", "int|null", ">=8"] and " 32 " in model  # of the preset `small`
    assert steps.endswith("optimiser steps in all")
    assert main(["train", "jepa", "--help", "--preset", "lewm"]) == 0
    assert "--preset lewm" in capsys.readouterr().out


def test_help_of_an_unknown_family(capsys):
    assert main(["train", "jpa", "--help"]) == 2
    assert "Did you mean 'jepa'?" in capsys.readouterr().err


def test_a_run_begins_with_another(tmp_path, capsys):
    """With its weights, settings and sensors, but for what is said; and it is known which one that was."""
    assert main(_words(tmp_path, "train.steps=2", "--quiet", "--sensors", "state")) == 0
    first, second, data = str(tmp_path / "r"), str(tmp_path / "s"), str(tmp_path / "d")
    begin = ["train", "jepa", "--init-from", first, "--data", data, "--out", second, *TINY, "--quiet"]
    keys = ["train.device=cpu", "train.steps=1", "train.lr=1e-9", "train.weight_decay=0"]
    assert main([*begin, *keys, "model.slices=8"]) == 0
    lesson = read(tmp_path / "s")
    assert (lesson.init_from, lesson.sensors) == (first, ("state",))
    assert (lesson.model["latent"], lesson.model["slices"], lesson.model["rollout"]) == (8, 8, 2)
    before, after = (checkpoint.load(run).state_dict() for run in (first, second))
    assert all(torch.allclose(value, after[name], atol=1e-6) for name, value in before.items() if "running" not in name)
    assert main(["train", "jepa", "--out", second, "--resume", "train.steps=2", "--quiet", "--no-page"]) == 0
    capsys.readouterr()

    def told(words):
        assert main(words) == 2
        return capsys.readouterr().err

    other = str(tmp_path / "o")
    assert "is a run of jepa, not of dino_wm" in told(["train", "dino_wm", *begin[2:6], "--out", other])
    assert "expected" in told([*begin[:6], "--out", other, *TINY, "--quiet", *keys, "model.latent=9"])
    assert "no checkpoint in" in told(["train", "jepa", "--init-from", data, "--data", data, "--out", other])
    assert "was begun with --init-from" in told(["train", "jepa", "--out", second, "--resume", "--init-from", other])
