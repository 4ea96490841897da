"""V-JEPA 2-AC's predictor: actions, states and patches of each step → the patches of the next (arXiv 2506.09985)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerworld.nn.block_causal import BlockCausal, Futures, Memory
from innerworld.nn.blocks import init_
from innerworld.nn.linear import Linear
from innerworld.nn.rotary import Pairing, Turn, grid_positions, turn


class ACPredictor(nn.Module):
    """Tokens of a step: [action, state, extrinsics, patches], without those that have no numbers.

    Patches turn by time, row and column, the others by time alone. The patches of several cameras lie side by side,
    each with its own rows and columns and a learned mark. `grids` are the rows and columns of the cameras. Raises
    `UserError` for heads of less than 12 channels.
    """

    def __init__(
        self,
        eyes: int,
        action: int,
        state: int,
        extrinsics: int,
        grids: Sequence[tuple[int, int]],
        dim: int,
        depth: int,
        heads: int,
        mlp: int,
        window: int,
        pairing: Pairing,
        rope_grid: int | None,
    ) -> None:
        super().__init__()
        self.pairing: Pairing = pairing
        self.action_in = Linear(action, dim) if action else None
        self.state_in = Linear(state, dim) if state else None
        self.extrinsics_in = Linear(extrinsics, dim) if extrinsics else None
        self.patch_in = Linear(eyes, dim)
        self.marks = nn.Parameter(torch.randn(len(grids), dim) * 0.02) if len(grids) > 1 else None  # one a camera
        self.body = BlockCausal(dim, depth, heads, mlp, window)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = Linear(dim, eyes)
        init_(self, rescale=True)
        turn(torch.zeros(1, 3), self.body.head_dim, pairing)  # refuses narrow heads now, not at the first look
        self.conditions = sum(part is not None for part in (self.action_in, self.state_in, self.extrinsics_in))
        self.sizes = [y * x for y, x in grids]
        place = torch.cat([_place(y, x, rope_grid) for y, x in grids])
        self.register_buffer("place", torch.cat([torch.zeros(self.conditions, 2), place]), persistent=False)  # s 2
        self.place: Tensor

    @property
    def step_size(self) -> int:
        """Tokens of a step."""
        return self.conditions + sum(self.sizes)

    def forward(self, z: Tensor, action: Tensor, state: Tensor, extrinsics: Tensor) -> Tensor:
        """All steps of a clip at once: patches `b t s d`, `b t a`, `b t p`, `b t e` → patches of the next `b t s d`."""
        t = z.shape[1]
        by = self._turn(torch.arange(t, device=z.device)[:, None], z.dtype, steps=True)
        return self._patches(self.body(self._tokens(z, action, state, extrinsics), by))

    def blank(self, b: int, like: Tensor) -> Memory:
        """The memory of `b` beliefs that have no past."""
        return self.body.blank(b, self.step_size, like)

    def futures(self, past: Memory, time: Tensor) -> Futures:
        """Candidate futures after a past of `time` `b` steps, for `step`."""
        return Futures(self.body, past, time, self.step_size)

    def step(
        self, futures: Futures, time: Tensor, z: Tensor, action: Tensor, state: Tensor, extrinsics: Tensor
    ) -> Tensor:
        """One more step of n futures, at `time` `b`: patches `b n s d`, `b n a`, `b n p`, `b n e` → `b n s d`."""
        by = self._turn(time[:, None], z.dtype)
        return self._patches(futures.add(self._tokens(z, action, state, extrinsics), by))

    def _tokens(self, z: Tensor, action: Tensor, state: Tensor, extrinsics: Tensor) -> Tensor:
        """`b t s d` and so on → `b t s' dim`."""
        given = ((self.action_in, action), (self.state_in, state), (self.extrinsics_in, extrinsics))
        conditions = [part(value).unsqueeze(-2) for part, value in given if part is not None]
        patches = self.patch_in(z)
        if self.marks is not None:
            sizes = torch.tensor(self.sizes, device=z.device)
            patches = patches + self.marks.repeat_interleave(sizes, dim=0)
        return torch.cat([*conditions, patches], dim=-2)

    def _patches(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x[..., self.conditions :, :]))

    def _turn(self, time: Tensor, dtype: torch.dtype, steps: bool = False) -> Turn:
        """The turn of a step's tokens at each of the times `t 1`, in a row (`steps`), or of rows at times `b 1`."""
        dtype = torch.promote_types(dtype, torch.float32)
        place = self.place.to(dtype).expand(len(time), -1, -1)
        position = torch.cat([time.to(dtype).expand(-1, place.shape[1])[..., None], place], dim=-1)  # t s 3
        position = position.flatten(0, 1) if steps else position[:, None]
        return turn(position, self.body.head_dim, self.pairing, dtype)


def _place(y: int, x: int, rope_grid: int | None) -> Tensor:
    """Row and column of each patch, `s 2`, stretched as if there were `rope_grid` of each."""
    place = grid_positions(1, y, x)[:, 1:].float()
    return place if rope_grid is None else place * torch.tensor([rope_grid / y, rope_grid / x])
