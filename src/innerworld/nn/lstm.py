"""Long short-term memories (Hochreiter and Schmidhuber 1997): with one bias, as TensorFlow's, and torch's with two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.nn.mlp import linear


class LSTM(nn.Module):
    """Inputs `b i`, memory `h` and `c` `b d` → the next memory. The forget gate begins open (a bias of 1).

    `push` is the inputs' share, apart because it can be had for all times at once.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.inputs = linear(inputs, 4 * hidden, fan_in=inputs + hidden)
        self.memory = linear(hidden, 4 * hidden, bias=False)
        nn.init.orthogonal_(self.memory.weight)
        with torch.no_grad():
            self.inputs.bias[hidden : 2 * hidden] = 1.0

    def push(self, x: Tensor) -> Tensor:
        """What inputs `... i` add to the gates: `... (4 d)`."""
        return self.inputs(x)

    def forward(self, push: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        into, forget, out, new = torch.addmm(push, h, self.memory.weight.T).chunk(4, dim=-1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(into) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(c), c


def cell(inputs: int, hidden: int) -> nn.LSTMCell:
    """Torch's own, begun as DIAMOND begins its memories: the forget gate open (a bias of 1)."""
    made = nn.LSTMCell(inputs, hidden)
    nn.init.xavier_uniform_(made.weight_ih)
    nn.init.orthogonal_(made.weight_hh)
    nn.init.zeros_(made.bias_ih)
    nn.init.zeros_(made.bias_hh)
    with torch.no_grad():
        made.bias_ih[hidden : 2 * hidden] = 1.0
    return made
