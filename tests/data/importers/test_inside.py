"""What a log names lies in the log, and what it declares has to fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerworld.data.importers.inside import check_room, inside
from innerworld.errors import UserError


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "C:\\x", "\\\\host\\x", "a\\..\\b", "a\0b", "C:x"]
)
def test_a_path_to_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    for follow in (False, True):
        with pytest.raises(UserError, match="outside"):
            inside(tmp_path, name, follow)


def test_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "log" / "sub").mkdir(parents=True)
    (tmp_path / "log" / "in").symlink_to(tmp_path / "log" / "sub")
    (tmp_path / "log" / "out").symlink_to(tmp_path)
    (tmp_path / "log" / "round").symlink_to(tmp_path / "log" / "round")
    assert inside(tmp_path / "log", "in/x") == tmp_path / "log" / "in" / "x"
    with pytest.raises(UserError, match="follow_links=true"):
        inside(tmp_path / "log", "out/x")
    assert inside(tmp_path / "log", "out/x", follow_links=True) == tmp_path / "log" / "out" / "x"
    (tmp_path / "mine").symlink_to(tmp_path / "log")  # the log's own folder may be a link
    assert inside(tmp_path / "mine", "sub/x").parent.is_dir()


def test_room() -> None:
    assert check_room("a", (3, 4), 8, 100) == 96
    for shape in ((3, 5), (2**40, 2**40), (-1, 4)):
        with pytest.raises(UserError, match="a says that it is"):
            check_room("a", shape, 8, 100)
