"""From a run to the page: every kind of world and goal, what is kept, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from innerworld.errors import UserError
from innerworld.recipes.minding.modules import Furnishing
from innerworld.recipes.minding.run import Errand, run_agent
from innerworld.recipes.two_rooms import Control


def test_it_acts_and_shows_what_there_was(run: Path, control: Control, tmp_path: Path) -> None:
    found = run_agent(Errand(str(run)), control, 2, tmp_path, tmp_path / "films", quiet=True, command="the command")
    assert [episode["reached"] in (True, False) for episode in found["episodes"]] == [True, True]
    first = found["episodes"][0]
    assert first["steps"] == len(first["explanations"]) <= 5  # it plans at every step
    assert first["explanations"][0]["surprise"] is None and first["explanations"][1]["surprise"] > 0
    assert "Step 0 in world 0: it searched" in first["first"] and first["degraded"] == 0
    page = (tmp_path / "agent.html").read_text("utf-8")
    for words in ("the command", "Episode 1: ", "imagined (nearest seen)", "Terms of the cost", "Believed", "Surprise"):
        assert words in page
    assert json.loads((tmp_path / "agent.json").read_text())["episodes"][1]["steps"] == found["episodes"][1]["steps"]
    assert [Path(film).name for film in found["films"]] == [
        f"episode-{k}-{what}.webp" for k in (0, 1) for what in ("whole", "first-plan")
    ]
    with Image.open(found["films"][0]) as film:
        # Frames that look alike are joined in the file.
        assert 1 <= len(list(ImageSequence.Iterator(film))) <= first["steps"] + 1


def test_the_same_seed_does_the_same(run: Path, control: Control, tmp_path: Path) -> None:
    once, again = (run_agent(Errand(str(run), seed=3), control, 1, tmp_path, quiet=True) for _ in range(2))
    plans = [[told["action"] for told in found["episodes"][0]["explanations"]] for found in (once, again)]
    assert plans[0] == plans[1]


def test_a_model_of_skipped_frames_looks_once_a_block(run_of_blocks: Path, control: Control, tmp_path: Path) -> None:
    found = run_agent(Errand(str(run_of_blocks), "8,20"), control, 1, tmp_path, quiet=True)
    told = found["episodes"][0]["explanations"]
    assert [one["step"] for one in told] == list(range(0, found["episodes"][0]["steps"], 2))
    assert "each step is 2" in (tmp_path / "agent.html").read_text("utf-8")


def test_the_true_dynamics_reach_a_place_that_is_near(store: Path, tmp_path: Path) -> None:
    settings = {"horizon": 6, "samples": 64, "rounds": 4, "elites": 8}
    control = Control(episodes=2, budget=30, search="cem", planner=settings)
    for errand in (Errand("oracle", "24,8", data=store), Errand("oracle", "24,8", env="two_rooms", seed=1)):
        found = run_agent(errand, control, 1, tmp_path, quiet=True)
        assert found["episodes"][0]["steps"] <= 30
        assert found["episodes"][0]["closest"] < 1 and found["episodes"][0]["surprise"] == 0
    assert (
        run_agent(Errand("oracle", env="two_rooms"), control, 1, tmp_path, quiet=True)["episodes"][0]["reached"]
        is not None
    )


def test_reward_is_pursued_where_it_is_told(actor: Path, control: Control, tmp_path: Path) -> None:
    found = run_agent(Errand(str(actor), "reward"), control, 2, tmp_path, quiet=True)
    episode = found["episodes"][0]
    assert episode["reached"] is None and episode["return"] == episode["steps"] == 5
    assert found["modules"]["cost"] == "reward, end"
    told = episode["explanations"][0]
    assert told["choice"] in (0, 1) and told["goal_now"] is None
    assert "no goal to come to" in episode["first"] and f"choice {told['choice']}" in episode["first"]


def test_what_went_wrong_later_is_told_and_does_not_stop_it(
    run: Path, control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innerworld.agent import Director

    real, calls = Director.set, []

    def breaks(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the second plan but one")
        return real(self, *given)

    monkeypatch.setattr(Director, "set", breaks)
    found = run_agent(Errand(str(run)), control, 1, tmp_path, quiet=True)["episodes"][0]
    assert found["steps"] == 5 and found["degraded"] == 1 and len(found["explanations"]) == 4
    assert found["trouble"] == ["step 2: RuntimeError: the second plan but one"]
    assert "the second plan but one" in (tmp_path / "agent.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("errand", "told"),
    [
        (Errand("nowhere"), "there is no run at nowhere"),
        (Errand("oracle"), "whose true dynamics"),
        (Errand("oracle", env="CartPole-v1"), "does not give its true dynamics away"),
        (Errand("RUN", "reward"), "tells no reward"),
        (Errand("RUN", "rewrd"), "Did you mean 'reward'"),
        (Errand("RUN", "1,2,3"), "the state of two_rooms has 2"),
        (Errand("RUN", "900,2"), "no place in two_rooms"),
        (Errand("RUN", "nan,2"), "sensor 'state' is not finite"),
        (Errand("RUN", "8,-Infinity"), "sensor 'state' is not finite"),
        (Errand("RUN", "1e999,2"), "sensor 'state' is not finite"),
        (Errand("RUN", env="CartPole-v1"), "CartPole-v1"),
        (Errand("RUN", goals=Path("pictures")), "give a sentence"),
        (Errand("RUN", furnishing=Furnishing(guard="1,2")), "cannot read the forbidden disc"),
        (Errand("RUN", furnishing=Furnishing(guard="1,2,3,4")), "the disc has 3 dimensions"),
        (Errand("RUN", furnishing=Furnishing(deadline_s=0)), "leaves no time"),
        (Errand("RUN", furnishing=Furnishing(habit=Path("none"))), "none holds no habit"),
    ],
)
def test_mistakes_are_one_line(run: Path, control: Control, errand: Errand, told: str, tmp_path: Path) -> None:
    from dataclasses import replace

    asked = replace(errand, model=str(run)) if errand.model == "RUN" else errand
    with pytest.raises(UserError, match=told) as error:
        run_agent(asked, control, 1, tmp_path, quiet=True)
    assert "\n" not in str(error.value)


def test_a_world_without_goals_says_so(actor: Path, control: Control, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CartPole-v1 has no goals"):
        run_agent(Errand(str(actor)), control, 1, tmp_path, quiet=True)


def test_a_planner_of_numbers_is_refused_at_once_for_choices(actor: Path, control: Control, tmp_path: Path) -> None:
    limits = control.agent.model_copy(update={"safe": (0.5,)})
    with pytest.raises(UserError, match="safe"):
        run_agent(Errand(str(actor), "reward"), control.model_copy(update={"agent": limits}), 1, tmp_path, quiet=True)


def test_folders_are_made_before_it_acts(run: Path, control: Control, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out, films in ((tmp_path / "file", None), (tmp_path, tmp_path / "file")):
        with pytest.raises(UserError, match="cannot make the folder"):
            run_agent(Errand(str(run)), control, 1, out, films, quiet=True)
    assert not (tmp_path / "agent.html").exists()
