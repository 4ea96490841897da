"""The replay gives back what was lived: whole windows, uniformly, what is new first, also after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.data.columns import Kind
from innerworld.data.ring import Moment, Places, Ring, row_bytes
from innerworld.errors import UserError
from innerworld.types import Spec

SPEC = Spec({"pixels": (2, 2, 1), "state": (2,)}, action=1)
BELIEF = {"deter": Kind((3,), "float16"), "stoch": Kind((2,), "uint8")}
EPISODE = 7


OPEN: list[Ring] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def make(
    folder: Path, lives: int = 1, capacity: int = 20, length: int = 4, at: int | None = None, tau: float | None = None
) -> Ring:
    """As it was left, without a word of farewell, if there is one in the folder."""
    OPEN.append(Ring(folder / "replay", SPEC, BELIEF, lives, capacity, length, at, tau))
    return OPEN[-1]


def moment(ring: Ring, mark: float = 0.0) -> Moment:
    """Says which life it is of and the how-manieth of that life it is."""
    count = ring.count.astype(np.float32)
    life = np.arange(ring.lives, dtype=np.float32)
    return Moment(
        {
            "pixels": np.broadcast_to((count % 256).astype(np.uint8)[:, None, None, None], (ring.lives, 2, 2, 1)),
            "state": np.stack([life, count], 1),
        },
        count[:, None] / 100,
        count + mark,
        count % EPISODE == EPISODE - 2,
        count % EPISODE == 0,
        {"deter": np.repeat(count[:, None], 3, 1), "stoch": np.zeros((ring.lives, 2))},
    )


def live(ring: Ring, steps: int, which: np.ndarray | None = None, mark: float = 0.0) -> None:
    for _ in range(steps):
        ring.append(moment(ring, mark), which)


def starts(ring: Ring, n: int, seed: int = 0) -> Counter[tuple[int, int]]:
    """Where so many windows begin, what is new left aside."""
    ring._new.clear()
    _, places = ring.draw(np.random.default_rng(seed), n)
    return Counter(zip(places.life.tolist(), places.start.tolist(), strict=True))


def test_a_clip_is_what_was_lived(tmp_path: Path):
    ring = make(tmp_path, lives=2, capacity=100)
    live(ring, 30)
    clip, places = ring.draw(np.random.default_rng(0), 6)
    assert clip.first is not None and clip.past is not None
    for row in range(6):
        numbers = torch.arange(places.start[row], places.start[row] + 5).float()
        assert torch.equal(clip.obs["state"][row], torch.stack([torch.full((5,), float(places.life[row])), numbers], 1))
        assert torch.equal(clip.obs["pixels"][row, :, 0, 0, 0], numbers.byte())
        assert torch.allclose(clip.action[row, :, 0], numbers[:4] / 100)
        assert torch.equal(clip.reward[row], numbers[:4])
        assert torch.equal(clip.terminated[row], numbers[:4] % EPISODE == EPISODE - 2)
        assert torch.equal(clip.first[row], numbers % EPISODE == 0)
        assert torch.equal(clip.past["deter"][row], numbers[:1].half().expand(3))
    assert clip.obs["pixels"].dtype == torch.uint8 and clip.past["stoch"].dtype == torch.uint8


@pytest.mark.parametrize("steps", [5, 19, 20, 21, 33, 47])
def test_no_window_crosses_the_head_and_all_others_are_drawn(tmp_path: Path, steps: int):
    ring = make(tmp_path)
    live(ring, steps)
    found = starts(ring, 3000)
    assert set(found) == {(0, start) for start in range(max(0, steps - 20), steps - 4)}


def test_all_windows_are_equally_likely_whatever_their_life(tmp_path: Path):
    ring = make(tmp_path, lives=3, capacity=60)
    live(ring, 31)
    live(ring, 6, np.array([True, False, False]))
    live(ring, 40, np.array([False, False, True]))
    found = starts(ring, 48 * 400)
    assert len(found) == 48  # 16 of each life
    assert min(found.values()) > 320 and max(found.values()) < 480  # 400, deviation 20


def test_lives_of_different_length_are_not_mixed(tmp_path: Path):
    ring = make(tmp_path, lives=2, capacity=40)
    live(ring, 3, np.array([True, False]))
    assert ring.windows.tolist() == [0, 0] and len(ring) == 3
    with pytest.raises(UserError, match="no clip of 4 actions yet"):
        ring.draw(np.random.default_rng(0), 1)
    live(ring, 6, np.array([False, True]))
    assert set(starts(ring, 100)) == {(1, 0), (1, 1)}


def test_what_is_new_is_drawn_first_and_once(tmp_path: Path):
    ring = make(tmp_path, lives=2, capacity=400)
    live(ring, 41)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(4):
        _, places = ring.draw(rng, 6)
        drawn += zip(places.life.tolist(), places.start.tolist(), strict=True)
    new = {(life, start) for life in (0, 1) for start in range(0, 40, 4)}  # each step between two moments once
    assert set(drawn[:20]) == new and len(drawn[:20]) == len(set(drawn[:20]))
    assert drawn[:6] == [(0, 0), (1, 0), (0, 4), (1, 4), (0, 8), (1, 8)]  # in the order in which they were lived
    live(ring, 4)
    _, places = ring.draw(rng, 3)
    assert (places.life[:2].tolist(), places.start[:2].tolist()) == ([0, 1], [40, 40])


def test_what_is_new_and_overwritten_is_forgotten(tmp_path: Path):
    ring = make(tmp_path)
    live(ring, 200)
    _, places = ring.draw(np.random.default_rng(0), 8)
    assert places.start.min() >= 180


def test_beliefs_are_put_back_but_into_no_row_that_was_overwritten_since(tmp_path: Path):
    ring = make(tmp_path)
    live(ring, 20)
    places = Places(np.array([0, 0]), np.array([0, 15]))
    live(ring, 3)  # rows 0, 1, 2 are gone, 20, 21, 22 are in their place
    believed = np.full((2, 5, 3), 1000.0) + np.arange(5)[:, None]
    ring.write_back(places, {"deter": believed, "stoch": np.full((2, 5, 2), 9)})
    got = np.zeros((20, 3), np.float16)
    ring.columns.read("belief.deter", 0, 3, got)
    numbers = np.arange(3.0, 23.0)
    expected = numbers.copy()
    expected[:2] = [1003, 1004]  # 3 and 4 of the first window
    expected[13:17] = [1001, 1002, 1003, 1004]  # 16 to 19 of the second, whose 15 is the past that it began with
    assert np.array_equal(got[:, 0], expected.astype(np.float16))
    assert ring.draw(np.random.default_rng(0), 1)[0].past is not None


def test_a_window_that_goes_round_the_end_is_put_back(tmp_path: Path):
    ring = make(tmp_path)
    live(ring, 28)
    ring.write_back(
        Places(np.array([0]), np.array([18])), {"deter": np.full((1, 5, 3), 77), "stoch": np.zeros((1, 5, 2))}
    )
    got = np.zeros((6, 3), np.float16)
    ring.columns.read("belief.deter", 0, 18, got)
    assert got[:, 0].tolist() == [18, 77, 77, 77, 77, 23]


# ---------------------------------------------------------------------- after a kill


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Saved at step 10 with 30 moments, lived 6 more, and died without a word."""
    ring = make(tmp_path)
    live(ring, 30)
    ring.save(10, {"agent_steps": 30})
    live(ring, 6, mark=5000)
    return tmp_path


def test_after_a_kill_it_is_as_it_was_noted(killed: Path):
    ring = make(killed, at=10)
    assert ring.count.tolist() == [30] and ring.noted == {"agent_steps": 30}
    # 30 to 35 lie where 10 to 15 were, and 16 may be torn.
    assert ring.oldest.tolist() == [17]
    assert set(starts(ring, 500)) == {(0, start) for start in range(17, 26)}
    live(ring, 10)
    clip, places = ring.draw(np.random.default_rng(1), 200)
    assert clip.reward.max() < 5000  # nothing of what was not noted
    assert torch.equal(clip.obs["state"][:, 0, 1], torch.from_numpy(places.start).float())


def test_a_torn_row_is_forgotten(tmp_path: Path):
    ring = make(tmp_path)
    live(ring, 30)
    ring.save(10, {})
    ring.columns.write("reward", 0, 30, np.array([9999], np.float32))  # the kill came before the other columns
    ring = make(tmp_path, at=10)
    clip, _ = ring.draw(np.random.default_rng(0), 300)
    assert clip.reward.max() < 9999


@pytest.mark.parametrize(("more", "oldest"), [(0, 0), (4, 0), (5, 1), (7, 3)])
def test_a_row_is_torn_also_where_the_ring_was_full_only_after_the_note(tmp_path: Path, more: int, oldest: int):
    ring = make(tmp_path)
    live(ring, 15)
    ring.save(10, {})
    live(ring, more, mark=5000)
    ring.columns.write("reward", 0, 15 + more, np.array([9999], np.float32))  # the kill came before the other columns
    ring = make(tmp_path, at=10)
    assert ring.oldest.tolist() == [oldest]
    clip, _ = ring.draw(np.random.default_rng(0), 300)
    assert clip.reward.max() < 5000


def test_it_goes_on_from_the_newest_note_that_is_not_later(tmp_path: Path):
    ring = make(tmp_path, capacity=200)
    for step in range(0, 120, 10):
        live(ring, 5)
        ring.save(step, {"agent_steps": 5 * (step // 10 + 1)})
    for at, count in ((95, 50), (110, 60), (1000, 60)):
        ring = make(tmp_path, capacity=200, at=at)
        assert ring.count.tolist() == [count]
    ring = make(tmp_path, capacity=200, at=3)  # so early a note is no longer kept
    assert ring.count.tolist() == [0] and len(ring) == 0


def test_what_was_new_is_new_still(tmp_path: Path):
    ring = make(tmp_path, capacity=100)
    live(ring, 21)
    ring.draw(np.random.default_rng(0), 2)
    ring.save(1, {})
    ring = make(tmp_path, capacity=100, at=1)
    _, places = ring.draw(np.random.default_rng(0), 3)
    assert places.start.tolist() == [8, 12, 16]


def test_without_its_files_it_is_empty_and_knows_the_rest(killed: Path):
    for path in (killed / "replay").iterdir():
        path.unlink()
    ring = make(killed, at=10)
    assert len(ring) == 0 and ring.count.tolist() == [30] and ring.noted == {"agent_steps": 30}
    live(ring, 5)
    assert set(starts(ring, 50)) == {(0, 30)}


# ---------------------------------------------------------------------- what was seldom drawn first


def drawn(ring: Ring, seed: int, batch: int = 3) -> list[tuple[int, int]]:
    _, places = ring.draw(np.random.default_rng(seed), batch)
    return list(zip(places.life.tolist(), places.start.tolist(), strict=True))


def test_what_was_seldom_drawn_is_drawn_next(tmp_path: Path):
    """With a small tau each start once before any twice; what overwrites an old moment was never drawn."""
    ring = make(tmp_path, lives=2, capacity=40, tau=0.01)
    live(ring, 13)
    assert sorted(drawn(ring, 0, 9) + drawn(ring, 1, 9)) == [(life, start) for life in (0, 1) for start in range(9)]
    live(ring, 9, np.array([True, False]))  # moments 20 and 21 stand where 0 and 1 did
    assert ring.draws is not None and ring.draws.counts[0, :9].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert sorted(drawn(ring, 2, 9)) == [(0, start) for start in range(9, 18)]
    live(ring, 4, np.array([True, False]))
    assert sorted(drawn(ring, 3, 4)) == [(0, start) for start in range(18, 22)]  # two of them in rows 0 and 1


def test_an_interrupted_run_draws_what_it_would_have_drawn(tmp_path: Path):
    ring = make(tmp_path, lives=2, capacity=200, tau=3.0)
    live(ring, 60)
    before = [drawn(ring, seed) for seed in range(20)]
    ring.save(20, {})
    live(ring, 5)
    after = [drawn(ring, seed) for seed in range(20, 40)]
    again = make(tmp_path, lives=2, capacity=200, at=20, tau=3.0)
    live(again, 5)
    assert [drawn(again, seed) for seed in range(20, 40)] == after
    assert again.draws is not None and again.draws.counts.sum() == 3 * 40 and len(before) == 20


def test_counts_are_kept_as_long_as_their_note(tmp_path: Path):
    ring = make(tmp_path, capacity=200, tau=1.0)
    for step in range(0, 120, 10):
        live(ring, 5)
        ring.save(step, {})
    kept = sorted(path.name for path in tmp_path.glob("replay.draws-*.npy"))
    assert kept == [f"replay.draws-{step:08d}.npy" for step in range(40, 120, 10)]
    (tmp_path / kept[-1]).unlink()
    with pytest.raises(UserError, match=r"cannot read .*replay\.draws-00000110\.npy"):
        make(tmp_path, capacity=200, at=110, tau=1.0)
    assert len(make(tmp_path, capacity=200, at=100, tau=1.0)) == 55


# ---------------------------------------------------------------------- what is refused


def test_other_rows_are_refused(killed: Path):
    with pytest.raises(UserError, match="other rows"):
        make(killed, capacity=40, at=10)
    (killed / "replay.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*replay\.json"):
        make(killed, at=10)


def test_too_small_a_replay_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="needs at least 15 rows"):
        make(tmp_path, lives=3, capacity=14)


def test_a_moment_of_another_shape_is_refused(tmp_path: Path):
    ring = make(tmp_path)
    wrong = moment(ring)
    with pytest.raises(UserError, match="reward has shape"):
        ring.append(Moment(wrong.obs, wrong.action, np.zeros(2), wrong.terminated, wrong.first, wrong.belief))


def test_a_row_has_the_bytes_that_are_told(tmp_path: Path):
    ring = make(tmp_path, capacity=50)
    assert ring.bytes == 50 * row_bytes(SPEC, BELIEF) == 50 * (4 + 8 + 4 + 4 + 1 + 1 + 6 + 2 + 8)


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path):
    """A replay of 64 MB, read twice over: the process stays as large as it was."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("only Linux tells")
    ring = Ring(tmp_path / "replay", Spec({"pixels": (64, 64, 3)}, 1), {}, 1, 5_000, 50)
    OPEN.append(ring)
    picture, one = np.zeros((1, 64, 64, 3), np.uint8), np.zeros(1)
    for _ in range(5_000):
        ring.append(Moment({"pixels": picture}, one[:, None], one, one, one, {}))
    rng = np.random.default_rng(0)
    ring.draw(rng, 16)
    before = int(statm.read_text().split()[1])
    for _ in range(12):
        ring.draw(rng, 16)
    grown = (int(statm.read_text().split()[1]) - before) * 4096
    assert grown < 30e6  # a batch is 10 MB
