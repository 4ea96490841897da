"""The transformer over frames: no frame sees a later one, and frames computed before are as good as computed along."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.frames import FrameTransformer

GRIDS = [(2, 3), (1, 2)]
S = 8


def body(rope: bool = False, steered: bool = False) -> FrameTransformer:
    torch.manual_seed(0)
    made = FrameTransformer(16, 2, 2, 12, 32, history=3, grids=GRIDS, rope=rope, steered=steered)
    return made.eval()


def frames(b: int = 2, f: int = 3) -> torch.Tensor:
    return torch.randn(b, f, S, 16, generator=torch.Generator().manual_seed(1))


def moves(b: int = 2, f: int = 3) -> torch.Tensor:
    return torch.randn(b, f, 16, generator=torch.Generator().manual_seed(2))


SLOTS = torch.arange(3)[None]
KINDS = pytest.mark.parametrize(("rope", "steered"), [(False, False), (True, False), (False, True), (True, True)])


@KINDS
def test_a_frame_sees_itself_and_those_before(rope: bool, steered: bool) -> None:
    model, x, action = body(rope, steered), frames(), moves() if steered else None
    before = model(x, SLOTS, action)[0]
    x[:, 1, 0] += 1.0
    changed = (model(x, SLOTS, action)[0] - before).abs().amax(dim=(0, 3))  # f s
    assert changed[0].max() == 0
    assert changed[1].min() > 0  # every patch of the frame sees the one that changed
    assert changed[2].min() > 0


@KINDS
def test_what_was_computed_before_is_as_good(rope: bool, steered: bool) -> None:
    model, x, action = body(rope, steered), frames(), moves() if steered else None
    whole = model(x, SLOTS, action)[0]
    some = [None if action is None else action[:, i : i + 1] for i in range(3)]
    pasts = []
    for i in range(3):
        out, past = model(x[:, i : i + 1], SLOTS[:, i : i + 1], some[i], pasts)
        torch.testing.assert_close(out[:, 0], whole[:, i], atol=1e-5, rtol=1e-5)
        pasts.append(past)


def test_a_past_is_shared_by_several_rows() -> None:
    model, x = body(), frames()
    past = model(x[:, :2], SLOTS[:, :2])[1]
    later = torch.randn(6, 1, S, 16)
    shared = model(later, SLOTS[:, 2:], before=[past])[0]
    alone = model(torch.cat([x[:, :2].repeat_interleave(3, 0), later], dim=1), SLOTS)[0]
    torch.testing.assert_close(shared[:, 0], alone[:, 2], atol=1e-5, rtol=1e-5)


@KINDS
def test_a_slot_below_zero_holds_no_frame(rope: bool, steered: bool) -> None:
    """Rows with pasts of different lengths go together, and each comes out as if it were alone."""
    model, x, action = body(rope, steered), frames(), moves() if steered else None
    slot = torch.tensor([[0, 1, 2], [-1, 0, 1]])
    together = model(x, slot, action)[0]
    alone = model(x[1:, 1:], SLOTS[:, :2], None if action is None else action[1:, 1:])[0]
    torch.testing.assert_close(together[1, 1:], alone[0], atol=1e-5, rtol=1e-5)
    past = model(x[:, :2], slot[:, :2], None if action is None else action[:, :2])[1]
    later = model(x[:, 2:], slot[:, 2:], None if action is None else action[:, 2:], [past])[0]
    torch.testing.assert_close(later[:, 0], together[:, 2], atol=1e-5, rtol=1e-5)


def test_rotary_positions_tell_patches_pictures_and_times_apart() -> None:
    place = body(rope=True)._positions(SLOTS)[0]  # f s 3
    assert len({tuple(row.tolist()) for row in place.flatten(0, 1)}) == 3 * S


def test_narrow_heads_cannot_turn() -> None:
    with pytest.raises(UserError, match="12 channels or more"):
        FrameTransformer(16, 1, 2, 8, 32, 3, GRIDS, rope=True)
