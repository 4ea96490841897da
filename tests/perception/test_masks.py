"""Masks: shares and shapes as published, each cut as it says, and the published code's quirks by name."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from innerworld.errors import UserError
from innerworld.perception.masks import Blocks, BlocksConfig, Mask, RandomTubes, Tubes, TubesConfig, rows

SHORT, LONG = TubesConfig(blocks=8, scale=(0.15, 0.15)), TubesConfig(blocks=2, scale=(0.7, 0.7))


def whole(mask: Mask, s: int) -> None:
    """Indices rise, lie on the grid, and nothing is both seen and guessed."""
    for index in (mask.context, *mask.targets):
        assert bool((index.diff(dim=1) > 0).all()) and int(index.min()) >= 0 and int(index.max()) < s
    for target in mask.targets:
        for seen, hidden in zip(mask.context.tolist(), target.tolist(), strict=True):
            assert not set(seen) & set(hidden)


def test_tubes_hide_what_they_do_not_show_all_the_time_long() -> None:
    mask = Tubes(SHORT)(1, 8, 14, 14, Generator().manual_seed(0))
    whole(mask, 8 * 196)
    assert mask.context.shape[1] + mask.targets[0].shape[1] == 8 * 196
    frames = mask.context[0].view(8, -1)
    assert torch.equal(frames - frames[:1], torch.arange(8)[:, None].expand_as(frames) * 196)


@pytest.mark.parametrize(("config", "share"), [(SHORT, 0.399), (LONG, 0.187)])
def test_tubes_show_the_published_share(config: TubesConfig, share: float) -> None:
    rng = Generator().manual_seed(0)
    seen = [Tubes(config)(1, 8, 16, 16, rng).context.shape[1] / (8 * 256) for _ in range(300)]
    assert sum(seen) / 300 == pytest.approx(share, abs=0.02)


def test_a_batch_cut_by_prefix_shows_the_beginning_and_one_cut_at_random_all_of_it() -> None:
    """The published trainers' bias: of 24 clips, nearly nothing is seen at the last moment."""

    def by_time(truncate: str) -> torch.Tensor:
        config = SHORT.model_copy(update={"truncate": truncate})
        rng = Generator().manual_seed(0)
        found = torch.cat([Tubes(config)(24, 8, 16, 16, rng).context.flatten() for _ in range(20)])
        return torch.bincount(found // 256, minlength=8).float()

    prefix, random = by_time("prefix"), by_time("random")
    assert prefix[7] < 0.2 * prefix[0]
    assert random.min() > 0.95 * random.max()


def test_short_tubes_leave_time_to_see() -> None:
    mask = Tubes(TubesConfig(blocks=1, scale=(1.0, 1.0), duration=(0.5, 0.5)))(4, 8, 4, 4, Generator().manual_seed(0))
    whole(mask, 128)
    assert mask.context.shape == (4, 64) and mask.targets[0].shape == (4, 64)


def test_random_tubes() -> None:
    mask = RandomTubes(0.9)(3, 4, 10, 10, Generator().manual_seed(0))
    whole(mask, 400)
    assert mask.context.shape == (3, 40) and mask.targets[0].shape == (3, 360)
    assert torch.equal(mask.context[:, 10:20], mask.context[:, :10] + 100)


def test_blocks_have_the_published_shapes() -> None:
    rng = Generator().manual_seed(0)
    for _ in range(50):
        mask = Blocks(BlocksConfig())(2, 14, 14, rng)
        assert len(mask.targets) == 4
        whole(mask, 196)
        assert mask.context.shape[1] > 10
        for target in mask.targets:
            y, x = target[0] // 14, target[0] % 14
            h, w = int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1
            assert h * w == target.shape[1]  # a full box
            assert 0.12 < h * w / 196 < 0.22 and 0.6 < h / w < 1.9


def test_a_batch_of_blocks_keeps_what_the_published_code_keeps() -> None:
    config = BlocksConfig(truncate="prefix", one_draw=True, spare_edge=True)
    rng = Generator().manual_seed(0)
    for b, share in ((1, 0.439), (128, 0.268)):
        seen = [Blocks(config)(b, 16, 16, rng).context.shape[1] / 256 for _ in range(100)]
        assert sum(seen) / 100 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("spare", [True, False])
def test_the_last_row_is_spared_only_on_request(spare: bool) -> None:
    rng = Generator().manual_seed(0)
    masks = [Blocks(BlocksConfig(spare_edge=spare))(8, 14, 14, rng) for _ in range(20)]
    hit = torch.cat([target.flatten() for mask in masks for target in mask.targets])
    assert bool(((hit // 14 == 13) | (hit % 14 == 13)).any()) is not spare


def test_one_draw_ties_scale_to_shape() -> None:
    """Then the largest blocks are the tallest; drawn apart, they need not be."""

    def correlation(one: bool) -> float:
        rng, found = Generator().manual_seed(0), []
        for _ in range(200):
            target = Blocks(BlocksConfig(one_draw=one, min_keep=0))(1, 32, 32, rng).targets[0][0]
            y, x = target // 32, target % 32
            found.append([float(len(target)), float((y.max() - y.min() + 1) / (x.max() - x.min() + 1))])
        return torch.corrcoef(torch.tensor(found).T)[0, 1].item()

    assert correlation(True) > 0.9 and abs(correlation(False)) < 0.3


def test_rows_are_cut_to_the_shortest() -> None:
    mask = torch.tensor([[True, True, True, False], [False, True, False, True]])
    assert rows(mask, "prefix", None).tolist() == [[0, 1], [1, 3]]
    found = {tuple(rows(mask, "random", Generator().manual_seed(i))[0].tolist()) for i in range(30)}
    assert found == {(0, 1), (0, 2), (1, 2)}


def test_the_same_seed_gives_the_same_mask() -> None:
    one, two = (Blocks(BlocksConfig())(4, 14, 14, Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.context, two.context) and all(map(torch.equal, one.targets, two.targets))


def test_a_mask_without_context_is_refused() -> None:
    with pytest.raises(UserError, match="leaves no context of 4×4 tokens: use fewer or smaller blocks"):
        Tubes(TubesConfig(blocks=3, scale=(1.0, 1.0), aspect=(1.0, 1.0)))(2, 2, 4, 4)
    with pytest.raises(UserError, match="leaves no more than 10 of 3×3 tokens as context"):
        Blocks(BlocksConfig())(2, 3, 3)
    with pytest.raises(UserError, match="a mask of 100% leaves no context of 2×2 tokens"):
        RandomTubes(1.0)(1, 2, 2, 2)
