"""The public names: exact, sorted, lazy, and `innerworld.train` is the function whatever was imported before."""

from __future__ import annotations

import ast
import subprocess
import sys
from inspect import getsource

import pytest

import innerworld


def test_all_is_sorted_and_each_name_is_there():
    assert innerworld.__all__ == sorted(innerworld.__all__, key=_as_ruff_sorts)
    assert len(innerworld.__all__) == len(set(innerworld.__all__))
    for name in innerworld.__all__:
        assert getattr(innerworld, name) is not None
    assert set(innerworld.__all__) <= set(dir(innerworld))


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse(getsource(innerworld))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in guarded[0].body if isinstance(node, ast.ImportFrom)]
    seen = {(node.module, alias.name) for node in imports for alias in node.names}
    homes = {(home, name) for home, names in innerworld._HOMES.items() for name in names}
    assert seen == homes
    assert {name for _, name in homes} | {"__version__"} == set(innerworld.__all__)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Clib'"):
        innerworld.Clib  # noqa: B018


def test_import_loads_no_torch():
    code = "import sys, innerworld; innerworld.UserError; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_is_the_function_after_its_module_was_imported(begin):
    status, said = begin(
        "import innerworld.training, innerworld; from innerworld.training import TrainConfig;"
        "from innerworld import train;"
        "assert train is innerworld.train and train.__name__ == 'train';"
        "assert innerworld.TrainConfig is TrainConfig;"
        "import innerworld.checkpoint; assert innerworld.checkpoint.load is innerworld.load"
    ).end()
    assert status == 0, said
