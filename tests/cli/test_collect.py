"""`innerworld collect`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from innerworld import envs
from innerworld.cli import main
from innerworld.data import POLICIES, Smooth, Store

SMALL = ["--envs", "4", "--size", "32", "--max-steps", "10"]


def _collect(folder, *words):
    return main(["collect", "two_rooms", "--out", str(folder), "--quiet", *SMALL, *words])


def test_collect(tmp_path, capsys):
    assert _collect(tmp_path / "d", "--episodes", "6", "--seed", "3", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert (found["episodes"], found["transitions"], found["transitions_new"]) == (6, 60, 60)
    assert found["bytes"] > 6 * 11 * 32 * 32 * 3
    store = Store.open(tmp_path / "d")
    about = store.meta.about
    assert (about.env, about.policy, about.seed, about.fps) == ("two_rooms", "smooth", 3, 10.0)
    assert about.more["command"].startswith("innerworld collect two_rooms")


def test_the_same_command_collects_the_same(tmp_path):
    for name in "ab":
        assert _collect(tmp_path / name, "--episodes", "5") == 0
    a, b = (Store.open(tmp_path / name) for name in "ab")
    assert all(bool((a.episode(i).action == b.episode(i).action).all()) for i in range(5))


def test_progress_goes_to_stderr(tmp_path, capsys):
    assert main(["collect", "two_rooms", "--out", str(tmp_path / "d"), "--episodes", "4", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "collect two_rooms 4/4" in err
    assert "4 episodes, 40 transitions" in out


def test_append_brings_new_episodes(tmp_path, capsys):
    folder = tmp_path / "d"
    assert _collect(folder, "--episodes", "4") == 0
    assert _collect(folder, "--episodes", "3") == 2
    assert "add to it with --append" in capsys.readouterr().err
    assert _collect(folder, "--episodes", "3", "--append") == 0
    assert _collect(folder, "--episodes", "3", "--append") == 0
    store = Store.open(folder)
    assert len(store) == 10
    assert len(set(store.seeds.tolist())) == 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--append", "--seed", "0"], "would collect the same episodes again"),
        (["--append", "--size", "48"], "the store's spec says"),
    ],
)
def test_append_refuses(words, told, tmp_path, capsys):
    assert _collect(tmp_path / "d", "--episodes", "2") == 0
    assert _collect(tmp_path / "d", "--episodes", "2", *words) == 2
    assert told in capsys.readouterr().err
    assert len(Store.open(tmp_path / "d")) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["collect", "two_room"], "unknown environment 'two_room'. Did you mean 'two_rooms'?"),
        (["collect", "two_rooms", "--policy", "smoth"], "unknown policy 'smoth'. Did you mean 'smooth'?"),
        (["collect", "two_rooms", "--episodes", "0"], "--episodes is at least 1"),
        (["collect", "two_rooms", "--seed", "-1"], "--seed at least 0"),
        (["collect", "two_rooms", "--envs", "0"], "--envs is at least 1"),
        (["collect", "two_rooms", "--parallel"], "leave out parallel"),
        (["collect", "Pendulum-v1", "--restarts", "5"], "give --parallel"),
        (["collect", "Pendulum-v1", "--parallel", "--timeout-s", "0"], "--timeout-s is above 0"),
        (["collect", "two_rooms", "episodes=3"], "Did you mean '--episodes'?"),
    ],
)
def test_collect_refuses_before_it_makes_a_folder(words, told, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "d")]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_patience_with_worlds_reaches_them(tmp_path, monkeypatch):
    told = {}

    def make(id, *given, **settings):
        told.update(settings)
        return envs.make(id, *given, **{**settings, "parallel": False})

    monkeypatch.setattr("innerworld.recipes.parts.envs", SimpleNamespace(make=make))
    words = ["--episodes", "1", "--max-steps", "2", "--sensors", "state", "--parallel", "--timeout-s", "7"]
    assert main(["collect", "Pendulum-v1", "--out", str(tmp_path / "d"), *words, "--restarts", "0", "--quiet"]) == 0
    assert (told["parallel"], told["timeout_s"], told["restarts"]) == (True, 7.0, 0)


def test_ctrl_c_keeps_what_was_collected(tmp_path, capsys, monkeypatch):
    class Stops(Smooth):
        calls = 0

        def __call__(self, obs, rng):
            Stops.calls += 1
            if Stops.calls > 25:
                raise KeyboardInterrupt
            return super().__call__(obs, rng)

    monkeypatch.setitem(POLICIES, "smooth", Stops)
    assert _collect(tmp_path / "d", "--episodes", "40") == 130
    assert f"interrupted: 8 episodes are safe in {tmp_path / 'd'}" in capsys.readouterr().err
    assert len(Store.open(tmp_path / "d")) == 8


@pytest.mark.slow
def test_sigint_in_a_process_of_its_own(tmp_path):
    words = ["collect", "two_rooms", "--out", str(tmp_path / "d"), "--episodes", "1000000", *SMALL]
    process = subprocess.Popen([sys.executable, "-m", "innerworld", *words], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("d/shards/*.safetensors")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err and "are safe in" in err.splitlines()[-1]
    store = Store.open(tmp_path / "d")
    assert len(store) >= 64
    assert store.episode(len(store) - 1).length == 10


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_ctrl_c_in_a_terminal_reaches_the_worlds_of_parallel_too(tmp_path):
    words = ["collect", "CartPole-v1", "--parallel", "--out", str(tmp_path / "d"), "--episodes", "1000000"]
    small = ["--envs", "2", "--size", "16", "--max-steps", "5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "innerworld", *words, *small], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("collect CartPole-v1")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "are safe in" in err.splitlines()[-1] and "Traceback" not in err and "Warning" not in err
    assert len(Store.open(tmp_path / "d")) > 0
