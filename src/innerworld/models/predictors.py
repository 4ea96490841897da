"""What carries a latent through time in a JEPA: an MLP, a GRU, or a causal transformer; all with one face."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from innerworld.nn.linear import Linear
from innerworld.nn.projector import Projector
from innerworld.nn.transformer import SteeredTransformer
from innerworld.types import State


class Predictor(nn.Module, ABC):
    """Latents and actions → the next latents. The MLP and the GRU have no memory beside the latent.

    `norm` ends what the encoder says of a picture, so that both live in one space; PLDM ties it to its predictor's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()

    @abstractmethod
    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Latents `b t d`, actions `b t a` → next latents `b t d`, each from the true latents before it."""

    @abstractmethod
    def branch(self, state: State, actions: Tensor) -> Tensor:
        """`z` `b d` (and its memory) and candidates `b n h a` → latents `b n h d`; the past is computed once."""

    def step(self, state: State, action: Tensor) -> tuple[Tensor, State]:
        """`z` `b d` (and its memory) and an action `b a` → the next latent, and the memory then."""
        return self(state["z"], action), {}

    def blank(self, z: Tensor) -> State:
        """The memory of a belief that begins at `z` `b d`."""
        return {}

    def remember(self, state: State, action: Tensor) -> State:
        """The memory after acting, for a belief whose latent comes from looking."""
        return {}


class MLPPredictor(Predictor):
    """The next latent is this one plus a change that depends on both latent and action. It has no memory."""

    def __init__(self, latent: int, action: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.z_in = Linear(latent, hidden)
        self.action_in = Linear(action, hidden, bias=False)
        body: list[nn.Module] = [nn.LayerNorm(hidden), nn.SiLU()]
        for _ in range(depth - 1):
            body += [Linear(hidden, hidden), nn.LayerNorm(hidden), nn.SiLU()]
        self.body = nn.Sequential(*body, Linear(hidden, latent))

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        return z + self.body(self.z_in(z) + self.action_in(action))

    def branch(self, state: State, actions: Tensor) -> Tensor:
        moves = self.action_in(actions)
        z = state["z"][:, None].expand(-1, actions.shape[1], -1)
        imagined = []
        for h in range(actions.shape[2]):
            z = z + self.body(self.z_in(z) + moves[:, :, h])
            imagined.append(z)
        return torch.stack(imagined, dim=2)


class GRUPredictor(Predictor):
    """PLDM's: the latent is the hidden state of a GRU whose input is the action (arXiv 2502.14819)."""

    def __init__(self, latent: int, action: int, norm: bool) -> None:
        super().__init__()
        self.cell = nn.GRUCell(action, latent)
        self.norm = nn.LayerNorm(latent) if norm else nn.Identity()

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        flat = self.cell(action.reshape(-1, action.shape[-1]), z.reshape(-1, z.shape[-1]))
        return self.norm(flat).view_as(z)

    def branch(self, state: State, actions: Tensor) -> Tensor:
        z = state["z"][:, None].expand(-1, actions.shape[1], -1)
        imagined = []
        for h in range(actions.shape[2]):
            z = self(z, actions[:, :, h])
            imagined.append(z)
        return torch.stack(imagined, dim=2)


class TransformerPredictor(Predictor):
    """LeWorldModel's predictor: a causal transformer over latents, steered by the embedded actions."""

    def __init__(
        self,
        latent: int,
        action: int,
        hidden: int,
        depth: int,
        heads: int,
        head_dim: int,
        history: int,
        dropout: float,
        projector: int,
    ) -> None:
        super().__init__()
        d = latent
        self.mix = Linear(action, action)  # LeWorldModel's 1-wide convolution over the action block
        self.embed = nn.Sequential(Linear(action, 4 * d), nn.SiLU(), Linear(4 * d, d))
        self.body = SteeredTransformer(d, depth, heads, head_dim, hidden, history, dropout)
        self.out = Projector(d, projector, d) if projector else Linear(d, d)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        return self.out(self.body(z, self.embed(self.mix(action))))

    def blank(self, z: Tensor) -> State:
        keys, values = self.body.blank(z.shape[0], z)
        return {"keys": keys, "values": values, "time": z.new_zeros(z.shape[0], dtype=torch.long)}

    def remember(self, state: State, action: Tensor) -> State:
        return self.step(state, action)[1]

    def step(self, state: State, action: Tensor) -> tuple[Tensor, State]:
        past = state["keys"], state["values"]
        x, (keys, values) = self.body.step(state["z"], self.embed(self.mix(action)), past, state["time"])
        return self.out(x), {"keys": keys, "values": values, "time": state["time"] + 1}

    def branch(self, state: State, actions: Tensor) -> Tensor:
        """One token for each candidate and step."""
        n, h = actions.shape[1:3]
        moves = self.embed(self.mix(actions))
        z = state["z"][:, None].expand(-1, n, -1)
        own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.body.blocks]
        imagined = []
        for i in range(h):
            z = self.out(self.body.branch(z, moves[:, :, i], (state["keys"], state["values"]), own, state["time"], i))
            imagined.append(z)
        return torch.stack(imagined, dim=2)
