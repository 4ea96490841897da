"""What is wanted: pictures are drawn to size, sentences mean the picture with the nearest name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerworld.agent.configurator.tasks import Asked, Reach, Say
from innerworld.errors import UserError
from innerworld.recipes.minding.known import Known, open_known
from innerworld.recipes.minding.wishes import letters, phrases_of, wishes
from innerworld.recipes.two_rooms import Control
from innerworld.types import Spec


@pytest.fixture(scope="module")
def known(run: Path) -> Known:
    return open_known(str(run), None, None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, value in (("upper-left.png", 40), ("lower_right.png", 200)):
        Image.fromarray(np.full((32, 32, 3), value, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_goals_by_chance_begin_apart_and_are_as_many_as_episodes(known: Known) -> None:
    found = wishes("random", known, Control(), 3, 0)
    assert len(found) == 3
    for wish in found:
        assert wish.start is not None and wish.goal is not None and wish.picture is not None
        assert wish.start.shape == wish.goal.shape == (1, 2)
        assert not known.world.success(wish.start, wish.goal)[0]  # pyright: ignore
        assert isinstance(wish.task, Reach) and list(wish.task.goal) == ["pixels"]


def test_a_place_is_seen_there(known: Known) -> None:
    (wish,) = wishes(" 8, 20.5", known, Control(), 1, 0)
    assert wish.goal is not None and wish.goal.tolist() == [[8, 20.5]] and wish.start is None
    assert wish.picture is not None and wish.picture.shape == (32, 32, 3)


def test_a_picture_is_drawn_to_the_size_that_the_model_sees(known: Known, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 4), 77, np.uint8)).save(tmp_path / "goal.png")
    (wish,) = wishes(str(tmp_path / "goal.png"), known, Control(), 1, 0)
    assert isinstance(wish.task, Reach) and wish.task.goal["pixels"].shape == (1, 32, 32, 3)
    assert bool((wish.task.goal["pixels"] == 77).all()) and wish.goal is None
    assert wish.note == "goal.png, 64 pixels, was drawn to 32"


def test_a_sentence_means_the_picture_with_the_nearest_name(known: Known, pictures: Path) -> None:
    (wish,) = wishes("please go to the upper left corner", known, Control(), 1, 0, pictures)
    assert isinstance(wish.task, Say) and "means 'upper left'" in wish.note
    phrases = phrases_of(pictures, known.model.spec)
    (leg,) = wish.task.legs(Asked(known.model.spec, 1, phrases=phrases))
    assert leg.goal is not None and bool((leg.goal["pixels"] == 40).all())
    assert wish.picture is not None and int(wish.picture[0, 0, 0]) == 40
    with pytest.raises(UserError, match="no goal is known that 'coffee'"):
        wishes("coffee", known, Control(), 1, 0, pictures)


def test_pictures_that_are_none_or_do_not_fit(known: Known, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, told in (
        ("wide.png", "10 by 20"),
        ("text.png", "cannot read the picture"),
        ("none.png", "no picture at"),
    ):
        with pytest.raises(UserError, match=told):
            wishes(str(tmp_path / name), known, Control(), 1, 0)
    with pytest.raises(UserError, match="no folder of pictures"):
        wishes("go there", known, Control(), 1, 0, tmp_path / "none")


def test_a_model_that_sees_numbers_takes_no_picture(store: Path, pictures: Path) -> None:
    oracle = open_known("oracle", store, None)
    assert oracle.model.spec == Spec({"state": (2,), "layout": (4,)}, 2)
    with pytest.raises(UserError, match="must see one image alone"):
        wishes(str(pictures / "upper-left.png"), oracle, Control(), 1, 0)


def test_letters_are_near_where_words_are_shared() -> None:
    a, b, c = torch.nn.functional.normalize(letters(["the red door", "to the RED door!", "a blue window"]))
    assert a @ b > 0.7 > 0.3 > a @ c
