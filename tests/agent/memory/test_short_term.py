"""Short-term memory: order, bounds, likeness against brute force, worlds apart, and a restart that nobody notices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent.memory.short_term import MemoryConfig, ShortTermMemory
from innerworld.agent.memory.tape import Episode
from innerworld.agent.modules import Moment
from innerworld.errors import UserError

NAMES = ("features", "action", "cost", "foreseen", "surprise")


def moment(time: int, b: int = 3, d: int = 5) -> Moment:
    """Another one at each time; row i is the same whatever b."""
    rng = Generator().manual_seed(time)
    numbers = torch.randn(8, d + 5, generator=rng)[:b]
    return Moment(time, numbers[:, :d], numbers[:, d : d + 2], *numbers[:, d + 2 :].unbind(1))


def lived(steps: int, b: int = 3, config: MemoryConfig = MemoryConfig()) -> ShortTermMemory:
    memory = ShortTermMemory(config)
    memory.begin(b)
    for time in range(steps):
        memory.remember(moment(time, b))
    return memory


def equal(a: Moment | Episode, b: Moment | Episode) -> bool:
    return all(torch.equal(getattr(a, name).nan_to_num(7), getattr(b, name).nan_to_num(7)) for name in NAMES)


def test_it_recalls_in_order() -> None:
    memory = lived(100)
    for last in (1, 7, 100):
        found = memory.recall(last)
        assert [each.time for each in found] == list(range(100 - last, 100))
        assert all(equal(each, moment(each.time)) for each in found)
    assert len(memory.recall(500)) == 100 and memory.recall(0) == []


def test_it_finds_times() -> None:
    memory = ShortTermMemory()
    memory.begin(3)
    for time in (0, 2, 5, 9):  # an agent that looks once a block
        memory.remember(moment(time))
    found = memory.at(5)
    assert found is not None and equal(found, moment(5))
    assert memory.at(4) is None and memory.at(10) is None
    assert [each.time for each in memory.between(2, 9)] == [2, 5]
    assert memory.between(3, 3) == [] and memory.between(9, 2) == []


def test_nothing_is_remembered_of_nothing() -> None:
    memory = ShortTermMemory()
    memory.begin(2)
    found = memory.similar(torch.ones(2, 5), k=3)
    assert found.similarity.shape == (2, 3) and found.similarity.isnan().all() and bool((found.time == -1).all())
    assert memory.similar(torch.ones(2, 5), within="all").cost.isnan().all()
    assert memory.recall(5) == [] and memory.at(0) is None and memory.episodes(running=True) == []


def test_what_was_given_out_does_not_change() -> None:
    memory = lived(50, config=MemoryConfig(steps=180))
    early = memory.recall(50)
    for time in range(50, 300):
        memory.remember(moment(time))
    assert all(equal(each, moment(each.time)) for each in early)


# ---------------------------------------------------------------------- bounds


@pytest.mark.parametrize("config", [MemoryConfig(steps=1000), MemoryConfig(mebibytes=0.05)], ids=["steps", "MiB"])
def test_it_is_bounded_over_ten_thousand_steps(config: MemoryConfig) -> None:
    memory, most = ShortTermMemory(config), 0.0
    now = moment(0)
    memory.begin(3)
    for time in range(10_000):
        if time % 700 == 0:
            memory.begin(3)
        memory.remember(Moment(time, now.features, now.action, now.cost, now.foreseen, now.surprise))
        assert memory.held <= memory.capacity <= config.steps
        most = max(most, memory.nbytes)
    assert most <= config.mebibytes * 2**20
    assert memory.held > 0.5 * memory.capacity  # and it is not mean
    assert memory.recall(1)[0].time == 9_999


def test_finished_episodes_go_first_and_the_oldest_of_them() -> None:
    memory = ShortTermMemory(MemoryConfig(steps=100))
    for _ in range(5):
        memory.begin(1)
        for time in range(30):
            memory.remember(moment(time, 1))
    assert [episode.number for episode in memory.episodes(running=True)] == [3, 4]
    for time in range(30, 500):
        memory.remember(moment(time, 1))
    (episode,) = memory.episodes(running=True)
    assert episode.number == 4 and int(episode.time[-1]) == 499 and 70 <= len(episode) <= 100


def test_the_present_always_finds_room() -> None:
    memory = lived(5, config=MemoryConfig(steps=1))
    assert [each.time for each in memory.recall(9)] == [4] and equal(memory.recall(1)[0], moment(4))


def test_its_repr_tells_how_full_it_is() -> None:
    memory = lived(20, config=MemoryConfig(steps=1500, mebibytes=2))
    assert repr(memory) == (
        "ShortTermMemory(3 worlds × 20 moments now, 0 finished episodes; 60 of at most 1,500 moments, "
        "0.0 of at most 2 MiB)"
    )


# ---------------------------------------------------------------------- likeness


def brute(query: Tensor, past: list[tuple[Tensor, float, int, int]], k: int) -> list[tuple[float, float, int, int]]:
    """By going through all: (cosine, cost, time, episode), best first."""
    found = [
        (float(torch.cosine_similarity(query.double(), features.double(), dim=0)), cost, time, episode)
        for features, cost, time, episode in past
        if bool(features.isfinite().all())
    ]
    return sorted(found, reverse=True)[:k]


@pytest.mark.parametrize("before", [None, 20])
def test_similar_moments_are_those_that_brute_force_finds(before: int | None) -> None:
    memory, query = lived(40), moment(1000).features
    found = memory.similar(query, k=6, before=before)
    for row in range(3):
        past = [
            (moment(t).features[row], float(moment(t).cost[row]), t, row)
            for t in range(40 if before is None else before)
        ]
        _compare(found, row, brute(query[row], past, 6))


def test_similar_moments_of_all_worlds_and_episodes() -> None:
    memory = ShortTermMemory()
    past = []
    for episode in range(3):
        memory.begin(2)
        for time in range(10 * episode, 10 * episode + 10):
            memory.remember(moment(time, 2))
            past += [
                (moment(time, 2).features[row], float(moment(time, 2).cost[row]), time, 2 * episode + row)
                for row in (0, 1)
            ]
    query = moment(500, 2).features
    found = memory.similar(query, k=9, within="all")
    for row in range(2):
        _compare(found, row, brute(query[row], past, 9))
    found = memory.similar(query, k=9, within="all", before=25)  # leaves out the row's own present only
    for row in range(2):
        rest = [each for each in past if not (each[3] == 4 + row and each[2] >= 25)]
        _compare(found, row, brute(query[row], rest, 9))


def test_moments_that_are_not_finite_are_kept_and_never_similar() -> None:
    memory = ShortTermMemory()
    memory.begin(2)
    for time in range(5):
        now = moment(time, 2)
        if time == 3:
            now.features[1] = torch.nan
        memory.remember(now)
    assert memory.recall(2)[0].features[1].isnan().all()
    for within in ("episode", "all"):
        found = memory.similar(moment(3, 2).features, k=12, within=within)
        episode, time = found.episode[1], found.time[1]
        assert not bool(((episode == 1) & (time == 3)).any())
        assert bool((time[found.similarity[1].isnan()] == -1).all()) and int(time[0]) != -1
    lost = memory.similar(torch.full((2, 5), torch.nan), k=2)
    assert lost.similarity.isnan().all() and lost.cost.isnan().all() and bool((lost.time == -1).all())


def _compare(found, row: int, expected: list[tuple[float, float, int, int]]) -> None:
    assert found.time[row].tolist() == [each[2] for each in expected]
    assert found.episode[row].tolist() == [each[3] for each in expected]
    torch.testing.assert_close(found.similarity[row].double(), torch.tensor([e[0] for e in expected]).double())
    torch.testing.assert_close(found.cost[row].double(), torch.tensor([e[1] for e in expected]).double())


# ---------------------------------------------------------------------- worlds and episodes


def test_worlds_that_go_on_remember_as_if_they_had_been_alone() -> None:
    memory, kept = lived(10, 4), torch.tensor([3, 1])
    memory.keep(kept)
    assert all(
        torch.equal(getattr(each, name), getattr(moment(each.time, 4), name)[kept])
        for each in memory.recall(10)
        for name in NAMES
    )
    for time in range(10, 15):
        now = moment(time, 4)
        memory.remember(Moment(time, *(getattr(now, name)[kept] for name in NAMES)))
    alone = lived(15, 4)
    mine, theirs = memory.similar(moment(99, 4).features[kept], k=4), alone.similar(moment(99, 4).features, k=4)
    assert torch.equal(mine.time, theirs.time[kept]) and torch.equal(mine.cost, theirs.cost[kept])


def test_worlds_that_are_done_stay_as_episodes() -> None:
    memory = lived(10, 4)
    memory.keep(torch.tensor([3, 1]))
    memory.keep(torch.tensor([1]), ended=False)
    done = {episode.number: episode for episode in memory.episodes()}
    assert {number: episode.ended for number, episode in done.items()} == {0: True, 2: True, 3: False}
    for number, episode in done.items():
        assert episode.time.tolist() == list(range(10))
        for name in NAMES:
            expected = torch.stack([getattr(moment(t, 4), name)[number] for t in range(10)])
            assert torch.equal(getattr(episode, name), expected)
    (running,) = memory.episodes(running=True)[3:]
    assert running.number == 1 and not running.ended and len(running) == 10


def test_an_episode_ends_or_is_cut_off() -> None:
    memory = lived(4, 2)
    memory.end(torch.tensor([1]))
    memory.begin(2)
    assert [(episode.number, episode.ended) for episode in memory.episodes()] == [(0, False), (1, True)]
    memory.begin(2)  # nothing was lived
    assert len(memory.episodes()) == 2 and memory.recall(3) == []


def test_some_worlds_begin_an_episode_while_others_go_on() -> None:
    memory = lived(6, 3)
    memory.end(torch.tensor([2]))
    memory.begin_rows(torch.tensor([2]))
    for time in range(6, 9):
        memory.remember(moment(time))
    assert [(episode.number, episode.ended, len(episode)) for episode in memory.episodes(running=True)] == [
        (2, True, 6),
        (0, False, 9),
        (1, False, 9),
        (3, False, 3),
    ]
    older, newer = memory.recall(4)[0], memory.recall(4)[1]
    assert older.features[2].isnan().all() and older.cost.isnan().tolist() == [False, False, True]
    assert equal(newer, moment(6))
    found = memory.similar(moment(50).features, k=9)
    assert bool((found.time[2][:3] >= 6).all()) and bool((found.time[2][3:] == -1).all())
    everywhere = memory.similar(moment(50).features, k=30, within="all")
    assert int((everywhere.time[0] >= 0).sum()) == 6 + 9 + 9 + 3  # each once
    memory.keep(torch.tensor([2]))
    assert [len(episode) for episode in memory.episodes(running=True)] == [6, 9, 9, 3]


def test_what_is_pursued_is_kept_where_it_was_told() -> None:
    memory = lived(3, 2)
    memory.pursue(torch.tensor([[1.0], [2.0]]))
    memory.remember(moment(3, 2))
    memory.keep(torch.tensor([1]))
    memory.remember(Moment(4, *(getattr(moment(4, 2), name)[1:] for name in NAMES)))
    gone, stays = memory.episodes(running=True)
    assert gone.goal is not None and stays.goal is not None
    assert gone.goal.flatten().isnan().tolist() == [True] * 3 + [False]
    assert stays.goal[3:].flatten().tolist() == [2, 2]


def test_mistakes_are_told() -> None:
    memory = lived(3, 2)
    with pytest.raises(UserError, match=r"a moment of 3 worlds, but 2 go on"):
        memory.remember(moment(3, 3))
    with pytest.raises(UserError, match="time 2 does not come after 2"):
        memory.remember(moment(2, 2))
    with pytest.raises(UserError, match="features of 6 numbers, this memory holds 5"):
        memory.remember(moment(3, 2, d=6))


# ---------------------------------------------------------------------- restart


def eventful() -> ShortTermMemory:
    memory = lived(70, 4, MemoryConfig(steps=600))
    memory.pursue(torch.rand(4, 3, generator=Generator().manual_seed(0)))
    memory.remember(moment(70, 4))
    memory.keep(torch.tensor([0, 2, 3]))
    memory.begin_rows(torch.tensor([1]))
    for time in range(71, 80):
        memory.remember(moment(time))
    return memory


def seen(time: int, b: int = 2) -> Moment:
    """Sight 10 of world 0 at time 1 and so on; world 1 saw nothing at time 2."""
    nothing, sight = torch.full((b,), torch.nan), 10 * time + torch.arange(b)
    sight[1] = -1 if time == 2 else sight[1]
    return Moment(time, torch.full((b, 3), 1.0 + time), torch.zeros(b, 1), torch.ones(b), nothing, nothing, sight)


def test_features_of_other_eyes_are_believed_anew_as_far_as_what_was_seen_is_known() -> None:
    asked: list[list[int]] = []

    def again(sights: Tensor) -> Tensor:
        asked.append(sights.tolist())
        return torch.where(sights > 0, 100.0 + sights, torch.nan)[:, None].expand(-1, 3)  # sight 0 is forgotten

    memory = ShortTermMemory()
    memory.begin(2)
    memory.pursue(torch.ones(2, 3))
    for time in range(4):
        memory.remember(seen(time))
    memory.keep(torch.tensor([0, 1]))
    memory.refresh(1, again)
    memory.remember(seen(4))  # with the new eyes
    assert memory.recall(1)[0].features[0, 0] == 5 and not asked  # nobody asked for those of before
    memory.begin(2)
    first, second = memory.episodes()
    assert len(asked) == 1 and sorted(asked[0]) == [0, 1, 10, 11, 20, 30, 31]
    assert first.features[:, 0].nan_to_num(-1).tolist() == [-1, 110, 120, 130, 5]
    assert second.features[:, 0].nan_to_num(-1).tolist() == [101, 111, -1, 131, 5]  # it saw nothing at time 2
    assert first.goal is not None and first.goal[:, 0].isnan().tolist() == [True] * 4 + [False]
    found = memory.similar(torch.ones(2, 3), k=9, within="all")
    assert int(found.time[0].ge(0).sum()) == 8 and len(asked) == 1  # what is not known anew is never similar
    memory.refresh(1, again)  # the same eyes
    memory.episodes()
    assert len(asked) == 1


def test_what_was_remembered_before_anybody_learnt_is_stale_too(tmp_path: Path) -> None:
    memory = lived(3)
    memory.refresh(1, lambda sights: torch.zeros(len(sights), 5))
    assert all(bool(each.features.isnan().all()) for each in memory.recall(3))
    memory.save(tmp_path)
    again = ShortTermMemory()
    again.load(tmp_path)
    again.remember(moment(9))
    assert again.recall(1)[0].features.isfinite().all() and again.recall(2)[0].features.isnan().all()
    again.refresh(1, lambda sights: torch.ones(len(sights), 5))  # the version is saved: nothing has changed since
    assert again.recall(1)[0].features.isfinite().all()


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    before, after = eventful(), ShortTermMemory(MemoryConfig(steps=600))
    before.save(tmp_path)
    after.load(tmp_path)
    assert repr(after).partition("moments,")[0] == repr(before).partition("moments,")[0]
    for time in range(80, 330):  # both forget in the meantime
        for memory in (before, after):
            if time == 200:
                memory.keep(torch.tensor([2, 1]))
            memory.remember(moment(time, 3 if time < 200 else 2))
        if time in (80, 150, 250, 329):
            assert before.recall(1)[0].time == after.recall(1)[0].time == time
            shared = zip(before.recall(20), after.recall(20), strict=True)
            assert all(a.time == b.time and equal(a, b) for a, b in shared)
            query = moment(999, 3 if time < 200 else 2).features
            a, b = (memory.similar(query, 5, "episode", before=time - 10) for memory in (before, after))
            assert torch.equal(a.similarity.nan_to_num(7), b.similarity.nan_to_num(7))
            assert torch.equal(a.episode, b.episode) and torch.equal(a.time, b.time)
            assert (before.held, before.nbytes) == (after.held, after.nbytes)
            assert [e.number for e in before.episodes()] == [e.number for e in after.episodes()]
    before.begin(1)
    after.begin(1)
    assert [e.number for e in before.episodes()][-2:] == [e.number for e in after.episodes()][-2:]


def test_episodes_survive_bit_for_bit(tmp_path: Path) -> None:
    before, after = eventful(), ShortTermMemory()
    before.save(tmp_path)
    after.load(tmp_path)
    pairs = list(zip(before.episodes(True), after.episodes(True), strict=True))
    assert len(pairs) == 5
    for a, b in pairs:
        assert (a.number, a.ended, a.time.tolist()) == (b.number, b.ended, b.time.tolist()) and equal(a, b)
        assert (a.goal is None) == (b.goal is None)
        assert a.goal is None or b.goal is None or torch.equal(a.goal.nan_to_num(7), b.goal.nan_to_num(7))


def test_a_memory_of_nothing_survives(tmp_path: Path) -> None:
    ShortTermMemory().save(tmp_path)
    memory = lived(3)
    memory.load(tmp_path)
    assert memory.held == 0 and memory.episodes(True) == []
    memory.begin(3)
    memory.remember(moment(0))


def test_a_smaller_memory_takes_what_it_may_hold(tmp_path: Path) -> None:
    memory = ShortTermMemory()
    for _ in range(3):
        memory.begin(1)
        for time in range(40):
            memory.remember(moment(time, 1))
    memory.save(tmp_path)
    small = ShortTermMemory(MemoryConfig(steps=110))
    small.load(tmp_path)
    assert [episode.number for episode in small.episodes(True)] == [1, 2] and small.held <= 110
    tiny = ShortTermMemory(MemoryConfig(steps=10))
    tiny.load(tmp_path)
    tiny.remember(moment(40, 1))
    assert tiny.held <= 10 and tiny.recall(1)[0].time == 40


def test_saving_again_leaves_one_file_of_tensors(tmp_path: Path) -> None:
    memory = lived(3)
    memory.save(tmp_path)
    memory.remember(moment(3))
    memory.save(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "index", "index gone", "format"])
def test_a_broken_file_is_named(tmp_path: Path, damage: str) -> None:
    lived(5).save(tmp_path)
    index, tensors = tmp_path / "memory.json", next(tmp_path.glob("*.safetensors"))
    data = bytearray(tensors.read_bytes())
    match damage:
        case "flipped":
            data[-3] ^= 1
            tensors.write_bytes(data)
        case "cut":
            tensors.write_bytes(data[:-8])
        case "gone":
            tensors.unlink()
        case "index":
            index.write_text(index.read_text()[:40])
        case "index gone":
            index.unlink()
        case "format":
            index.write_text(json.dumps(json.loads(index.read_text()) | {"format": 99}))
    memory = lived(2)
    with pytest.raises(UserError) as error:
        memory.load(tmp_path)
    assert (index if "index" in damage or damage == "format" else tensors).name in str(error.value)
    assert memory.recall(1)[0].time == 1  # as it was


def test_a_kill_in_the_middle_of_saving_leaves_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = lived(5)
    memory.save(tmp_path)
    memory.remember(moment(5))
    from innerworld import saved

    write, calls = saved.write_atomic, []

    def killed(path: Path, parts) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(path, parts)

    monkeypatch.setattr(saved, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        memory.save(tmp_path)
    after = ShortTermMemory()
    after.load(tmp_path)
    assert [each.time for each in after.recall(9)] == [0, 1, 2, 3, 4]
