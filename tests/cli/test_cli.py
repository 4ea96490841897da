"""`main`: help, verbs, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from innerworld import cli
from innerworld.cli import VERBS, main
from innerworld.cli.verb import Answer, Verb
from innerworld.errors import UserError


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys; from innerworld.cli import main; main(['--help']); assert not {'torch', 'tyro'} & set(sys.modules)"
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.6


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (about, _) in VERBS.items():
        assert f"  {name:<10} {about}" in lines


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


def test_unknown_verb_names_the_nearest(capsys):
    assert main(["colect"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "innerworld: unknown verb 'colect'. Did you mean 'collect'? See innerworld --help\n"


@pytest.mark.parametrize("name", list(VERBS))
def test_every_verb_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: innerworld {name}" in out


def test_an_error_is_one_json_object_too(capsys):
    assert main(["models", "jpa", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "Did you mean 'jepa'?" in json.loads(out)["error"]
    assert err.count("\n") == 1


@pytest.fixture
def verb(monkeypatch):
    """Make `innerworld try` do something."""

    def define(does):
        from innerworld.cli.doctor import DoctorFlags

        monkeypatch.setitem(cli.VERBS, "try", ("", lambda: Verb(DoctorFlags, lambda flags, call: does())))

    return define


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("two\nlines"), 2, "two lines"),
        (KeyboardInterrupt(), 130, "interrupted: all that was saved before is safe"),
        (MemoryError(), 2, "out of memory: use a smaller batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 TB"), 2, "out of memory"),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), 2, "the package 'rich' is not installed here"),
        (PermissionError(13, "Permission denied", "/there"), 2, "cannot use /there: Permission denied"),
    ],
)
def test_failures_are_one_line(error, code, line, verb, capsys):
    verb(lambda: _raise(error))
    assert main(["try"]) == code
    err = capsys.readouterr().err
    assert err.startswith(f"innerworld: {line}")
    assert err.count("\n") == 1


def test_our_own_mistake_shows_its_traceback(verb, capsys):
    verb(lambda: _raise(ZeroDivisionError("oh")))
    assert main(["try", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "Traceback" in err and "ZeroDivisionError: oh" in err
    assert "please report" in err.splitlines()[-1]
    assert "ZeroDivisionError" in json.loads(out)["error"]


def test_an_error_that_ctrl_c_became_keeps_its_code(verb, capsys):
    def stop():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise UserError("interrupted: 3 episodes are safe") from None

    verb(stop)
    assert main(["try"]) == 130


def test_stdout_is_the_json_object_alone_and_knows_no_nan(verb, capsys):
    def chat():
        print("a library says hello")
        return Answer({"a": float("nan"), "b": [1.5, float("inf")]}, lambda console: None, code=3)

    verb(chat)
    assert main(["try", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": None, "b": [1.5, None]}
    assert "hello" in err


def test_a_reader_who_goes_away_is_no_error():
    command = f"{sys.executable} -m innerworld --help | true; echo ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert done.stdout.strip() in ("0", "141")
