"""Everything in README and docs that can be executed is: Python blocks run, commands and their flags exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerworld.cli import GLOBAL, VERBS
from innerworld.cli.compare import described
from innerworld.cli.flags import parse
from innerworld.cli.preset import begin, named
from innerworld.config import override
from innerworld.errors import UserError, choose
from innerworld.recipes.practice import Online
from innerworld.training import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
SHORTER = {"README.md": {"TrainConfig(steps=150": "TrainConfig(steps=3", "in range(30)": "in range(3)"}}
"""Numbers of a page that are smaller here: a reader's model learns something, and ours goes the same way."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "```python\n" in page.read_text("utf-8")], ids=_name)
def test_python_blocks_run(page: Path, tmp_path: Path, begin: Callable[..., Any]) -> None:
    """In order, in one namespace and an empty folder, with warnings as errors."""
    script = _script(page.read_text(encoding="utf-8"))
    for long, short in SHORTER.get(_name(page), {}).items():
        assert script.count(long) == 1, f"{page.name} no longer says {long}: nor should SHORTER"
        script = script.replace(long, short)
    file = tmp_path / f"{page.stem}.py"
    file.write_text(script, encoding="utf-8")
    code, said = begin(file).end()
    assert code == 0, f"{page.name} (the lines are the document's own):\n{said.decode()[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_can_be_given(page: Path) -> None:
    """Verbs, flags and settings exist, and nothing that must be given is missing. Nothing is executed."""
    for line, words in _commands(page.read_text(encoding="utf-8")):
        try:
            _read_command(words[1:])
        except UserError as error:
            pytest.fail(f"{page.name}: `{line}`: {error}")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(BLOCK, "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:tests|bench|examples)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    missing = [file for file in named if not (ROOT / file).exists()]
    assert not missing, f"{page.name} names {missing}"


def test_every_fault_has_a_promise_and_a_test() -> None:
    """Those of the server come with it."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    rows = {int(found[1]): found[2] for line in lines if (found := re.match(r"\| (\d+) \|.*\| ([^|]*) \|$", line))}
    assert list(rows) == [*range(1, 25), 28, 29, 30]
    assert all("`tests/" in tests for tests in rows.values())


def test_a_block_that_fails_or_warns_is_told(tmp_path: Path, begin: Callable[..., Any]) -> None:
    """At its line in the page."""
    for block, told in (("assert 1 == 2", "AssertionError"), ("import warnings; warnings.warn('old')", "old")):
        code, said = begin(_script(f"# Title\n```python\n{block}\n```\n")).end()
        assert code == 1 and "line 3, in <module>" in said.decode() and told in said.decode()


def test_a_block_keeps_its_line() -> None:
    text = "# Title\n\n```python\nx = 1\n```\nwords\n```sh\nls\n```\n```python\nassert x == 2\n```\n"
    lines = _script(text).splitlines()
    assert lines[3] == "x = 1"
    assert lines[10] == "assert x == 2"
    assert not any(lines[i] for i in (0, 1, 2, 4, 5, 6, 7, 8, 9))


def test_a_wrong_command_is_found() -> None:
    for command in ("trian jepa", "train jepa --ouput x", "train jepa", "train jepa --out x train.stesp=3"):
        with pytest.raises(UserError):
            _read_command(command.split())
    _read_command(["train", "jepa", "--out", "x", "--data", "y", "model.latent=8", "train.steps=3", "--quiet"])


def test_commands_are_found_across_continued_lines() -> None:
    text = "```sh\n# a comment\npip install x\ninnerworld train jepa \\\n  --out runs/a steps=3   # say\n```\n"
    assert [words for _, words in _commands(text)] == [["innerworld", "train", "jepa", "--out", "runs/a", "steps=3"]]


def _script(text: str) -> str:
    """The Python blocks of a page, each line at its own number, so that a traceback names the line of the page."""
    lines = [""] * text.count("\n")
    for match in BLOCK.finditer(text):
        if match[1] == "python":
            first = text.count("\n", 0, match.start(2))
            for i, line in enumerate(match[2].splitlines()):
                lines[first + i] = line
    return "\n".join(lines) + "\n"


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """Each `innerworld ...` line of the shell blocks, with its words."""
    found = []
    for match in BLOCK.finditer(text):
        if match[1] == "sh":
            for line in match[2].replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["innerworld"]:
                    found.append((line, words))
    return found


def _read_command(words: list[str]) -> None:
    """Raise `UserError` for a command that the command line would refuse."""
    name, *rest = words or ["--help"]
    if name in ("--help", "--version"):
        return
    verb = choose("verb", name, VERBS)[1]()
    if "--help" in rest:
        return
    flags, overrides, _ = parse(name, verb, [word for word in rest if word not in GLOBAL])
    if name == "compare" and not flags.resume:
        described(flags, overrides)
    if name == "train":  # together, for settings may need each other
        family, preset = named(flags.family, flags.preset, flags.model)
        start = {"model": begin(family, preset), "online": Online(), "train": TrainConfig()}
        given: dict[str, list[str]] = {part: [] for part in start}
        for word in overrides:
            part, _, setting = word.partition(".")
            choose("settings", part, given).append(setting)
        for part, settings in given.items():
            override(start[part], settings)
