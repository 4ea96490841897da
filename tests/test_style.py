"""What every file of the project keeps: names, first lines, nothing that runs code from data, a README that is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
CODE = [*SOURCE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]
TEXTS = [
    *(file for file in CODE if file != Path(__file__)),
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
    ROOT / "constraints.txt",
]
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
UNSAFE = {
    "pickle": "data must not run code: use safetensors or JSON",
    "torch.load": "it unpickles: use safetensors",
    "eval": "data must not run code",
    "exec": "data must not run code",
    "yaml.load": "it can build any object: use JSON",
    "np.load": "only with allow_pickle=False",
}
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|root|Users|work)/\w")  # somebody's machine
LINES = 150


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", SOURCE, ids=_name)
def test_a_file_says_first_what_it_is(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    assert first.endswith((".", ":", "?", "!")), f"{_name(file)} does not begin with a sentence, but with {first!r}"
    assert tree.body[0].lineno == 1, f"{_name(file)}: the sentence is not on the first line"


@pytest.mark.parametrize("file", CODE, ids=_name)
def test_no_drawers(file: Path) -> None:
    """A file named for what is in it is found; one named `utils` grows."""
    words = {part.removesuffix(".py").removeprefix("test_") for part in file.relative_to(ROOT).parts}
    assert not words & DRAWERS, f"{_name(file)}: name it after what it holds"


@pytest.mark.parametrize("file", SOURCE, ids=_name)
def test_no_code_from_data_and_no_hidden_failures(file: Path) -> None:
    wrong = _faults(file.read_text(encoding="utf-8"))
    assert not wrong, f"{_name(file)}: {'; '.join(wrong)}"


@pytest.mark.parametrize("file", TEXTS, ids=_name)
def test_no_path_of_somebodys_machine(file: Path) -> None:
    found = MACHINE_PATH.search(file.read_text(encoding="utf-8"))
    assert not found, f"{_name(file)} names the path {found[0]!r}"


def test_the_readme_is_short_and_ends_with_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= LINES, f"README.md has {text.count(chr(10))} lines, {LINES} are allowed"
    blocks = re.findall(r"^```text\n(.*?)^```\s*\Z", text, re.MULTILINE | re.DOTALL)
    assert blocks, "README.md does not end with the file tree"
    for path, comment in _tree(blocks[0].rpartition("```text\n")[2]):
        assert (ROOT / path).exists(), f"README.md: the tree names {path}, which is not there"
        assert comment, f"README.md: {path} has no comment in the tree"


def test_the_readme_names_every_family() -> None:
    from innerworld.models import MODELS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in MODELS:
        assert f"| `{name}` |" in text, f"README.md: the table of families lacks {name}"


def test_every_fault_is_found() -> None:
    assert _faults("import pickle") and _faults("from pickle import loads")
    assert _faults("import torch\nx = torch.load('f')") and _faults("eval('1')") and _faults("yaml.load(f)")
    assert _faults("np.load(f)") and not _faults("np.load(f, allow_pickle=False)")
    assert _faults("try:\n    x()\nexcept Exception:\n    pass") and _faults("try:\n    x()\nexcept:\n    ...")
    assert not _faults("model.eval()\ntry:\n    x()\nexcept OSError:\n    y()")
    assert MACHINE_PATH.search("open('/home/me/x')") and not MACHINE_PATH.search("see docs/work/x")


def test_the_tree_is_read() -> None:
    tree = "src/\n  a/            # one\n    b.py        # two\n  c.py          # three\nd.md            # four\n"
    assert _tree(tree) == [
        ("src", ""),
        ("src/a", "one"),
        ("src/a/b.py", "two"),
        ("src/c.py", "three"),
        ("d.md", "four"),
    ]


def _faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}: {UNSAFE['pickle']}" for name in names if name.split(".")[0] == "pickle"]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in UNSAFE and "allow_pickle=False" not in ast.unparse(node):
                found.append(f"line {node.lineno}: {name}: {UNSAFE[name]}")
        elif isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(line, ast.Pass) or ast.unparse(line) == "..." for line in node.body)
            if silent and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")):
                found.append(f"line {node.lineno}: hides whatever went wrong")
    return found


def _tree(text: str) -> list[tuple[str, str]]:
    """Lines of an indented tree → paths and comments."""
    found: list[tuple[str, str]] = []
    parents: list[str] = []
    for line in text.splitlines():
        entry, _, comment = line.partition("#")
        depth = (len(entry) - len(entry.lstrip())) // 2
        for name in entry.split():
            path = "/".join([*parents[:depth], name.rstrip("/")])
            found.append((path, comment.strip()))
        parents = [*parents[:depth], entry.strip().rstrip("/")]
    return found
