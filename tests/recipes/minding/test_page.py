"""The page: which decisions say most, what is charted where the agent did not look, how an episode is told."""

from __future__ import annotations

import numpy as np

from innerworld.agent import Explanation
from innerworld.agent.configurator.tasks import Maximise
from innerworld.recipes.minding.episode import Diary, Step
from innerworld.recipes.minding.page import numbers, outcome, sections, telling
from innerworld.recipes.minding.wishes import Wish
from innerworld.report import Chart, Movie, Table

NAN = float("nan")


def decision(time: int, surprise: float | None, degraded: bool = False, why: tuple[str, ...] = ()) -> Explanation:
    goal = [2.0, 1.0, 0.5]
    return Explanation(
        0, time, surprise, False, 1.0, 2, [0.5, -0.5], None, 3, 10, 0.5, 1.0, {"goal [energy]": 0.5},
        {"goal [energy]": 1.0}, 3.0, goal, [1.0, 0.5], 0.0, degraded, why,
    )  # fmt: skip


def diary() -> Diary:
    made = Diary(Wish(Maximise(), picture=np.zeros((8, 8, 3), np.uint8)), reached=False)
    for t in range(6):
        made.steps.append(Step(0.5, NAN if t % 2 else float(t), 1.0 if t % 2 == 0 else NAN, 1.0, t == 4, 10.0 * t))
    made.pictures = [np.full((8, 8, 3), t, np.uint8) for t in range(7)]
    made.aims = made.pictures[:6]
    made.course = np.zeros((4, 8, 8, 3), np.uint8)
    made.decisions = [decision(0, None), decision(1, 2.0), decision(2, 1.0, True, ("stuck: x",)), decision(3, 0.5)]
    made.starts = [0, 2, 4, 5]
    return made


def test_telling_decisions_are_in_order_and_say_why() -> None:
    found = dict(telling(diary()))
    assert list(found) == [0, 1, 2, 3]
    assert found == {0: "the first", 1: "the most surprised", 2: "no plan, something was noticed", 3: "the last"}
    alone = Diary(Wish(Maximise()), decisions=[decision(0, None)], starts=[0])
    assert telling(alone) == [(0, "the first, the last")]
    assert telling(Diary(Wish(Maximise()))) == []


def test_numbers_are_means_over_what_was_known() -> None:
    found = numbers(diary())
    assert (found["surprise"], found["ms_per_action"], found["return"]) == (2.0, 25.0, 3.0)
    assert (found["steps"], found["degraded"], found["reached"]) == (6, 1, False)


def test_how_it_ended_in_words() -> None:
    made = diary()
    assert outcome(made) == "not reached in 6 steps"
    made.reached = True
    assert outcome(made) == "reached after 6 steps"
    made.reached, made.ended = None, True
    assert outcome(made) == "ended after 6 steps, return 3"


def test_an_episode_has_films_charts_and_words() -> None:
    whole, one, said = sections([diary()], {"search": "cem"}, 2, draws=False)
    assert isinstance(whole.blocks[0], Table) and whole.blocks[0].rows[0][:4] == ["0", "no", "3", "6"]
    film, first_plan = (block for block in one.blocks if isinstance(block, Movie))
    assert [name for name, _ in film.panels] == ["the world", "end of its plan, imagined (nearest seen)", "the goal"]
    assert len(film.panels[0][1]) == 7 and len(first_plan.panels[0][1]) == 4
    assert first_plan.panels[0][1][:, 0, 0, 0].tolist() == [0, 2, 4, 6]  # a frame a block
    charts = {block.title: block for block in one.blocks if isinstance(block, Chart)}
    assert list(charts["Surprise"].curves[0].x) == [0, 2, 4]
    way = charts["The plans’ way to the goal"].curves
    assert len(way) == 4 and list(way[0].y) == [3.0, 2.0, 1.0, 0.5]
    (terms,) = (block for block in one.blocks if isinstance(block, Table))
    assert terms.rows[0] == ["step 0", "0.5", "1", "0.5 (1)"]
    paragraphs = said.text.split("\n\n")
    assert [text.partition(":")[0] for text in paragraphs] == [
        "Step 0, the first", "Step 2, the most surprised", "Step 4, no plan, something was noticed", "Step 5, the last"
    ]  # fmt: skip
    assert paragraphs[2].endswith("`Noticed` stuck: x.") and "`Chosen` (+0.50, -0.50)" in paragraphs[0]


def test_without_pictures_there_is_no_film() -> None:
    made = diary()
    made.pictures, made.aims, made.course = [], [], None
    _, one, _ = sections([made], {}, 1, draws=True)
    assert not any(isinstance(block, Movie) for block in one.blocks)
