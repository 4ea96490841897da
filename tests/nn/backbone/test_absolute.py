"""The transformer with absolute positions: STORM's and TransDreamer's, trained at once and read again when it acts."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.backbone.absolute import AbsoluteTransformer
from innerworld.nn.sincos import sincos
from innerworld.types import each

DIM, HEADS, T, POSITIONS, CONTEXT = 12, 3, 9, 14, 5
BOTH = pytest.mark.parametrize("kind", ["storm", "transdreamer"])


def transformer(kind: str = "storm", positions: int = POSITIONS, context: int = CONTEXT) -> AbsoluteTransformer:
    torch.manual_seed(0)
    if kind == "storm":
        return AbsoluteTransformer(DIM, 2, HEADS, 16, positions, context).eval()
    return AbsoluteTransformer(
        DIM, 2, HEADS, 16, positions, context, head_dim=5, table="sines", norm="pre", every=True
    ).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def episodes(t: int = T) -> Tensor:
    first = torch.zeros(2, t, dtype=torch.bool)
    first[0, 3] = first[1, 0] = True
    return first


def stepped(layer: AbsoluteTransformer, x: Tensor, trimmed: bool = False) -> Tensor:
    memory, outs = layer.blank(len(x), x), []
    for t in range(x.shape[1]):
        out, memory = layer.step(x[:, t], memory)
        memory = layer.trim(memory) if trimmed else memory
        outs.append(out)
    return torch.stack(outs, dim=1)


@BOTH
@torch.no_grad()
def test_step_by_step_is_all_at_once(kind: str) -> None:
    layer, x = transformer(kind), noise(2, T, DIM)
    torch.testing.assert_close(stepped(layer, x), layer(x), rtol=0, atol=1e-5)
    double = layer.double()
    torch.testing.assert_close(stepped(double, x.double()), double(x.double()), rtol=0, atol=1e-10)


@BOTH
@torch.no_grad()
def test_who_trims_reads_the_context_each_time(kind: str) -> None:
    """As STORM acts: the last 16 tokens at positions 0 to 15."""
    layer, x = transformer(kind), noise(2, T, DIM)
    outs = stepped(layer, x, trimmed=True)
    for t in range(T):
        read = layer(x[:, max(t + 1 - CONTEXT, 0) : t + 1])
        torch.testing.assert_close(outs[:, t], read[:, -1], rtol=0, atol=1e-5)


@BOTH
@torch.no_grad()
def test_each_memory_of_a_trace_goes_on(kind: str) -> None:
    """With as many inputs as the context leaves room for, of the episode that goes on."""
    layer, x, first = transformer(kind), noise(2, T, DIM), episodes(T + 1)
    out, memories = layer.trace(x, first)
    assert torch.equal(out, layer(x, first[:, :-1]))
    begin = [[0, 0], [0, 0], [0, 0], *[[3, 0]] * 7]
    for t in range(T + 1):
        now, after = layer.step(noise(2, DIM, seed=5), each(lambda value, t=t: value[:, t], memories))
        assert {name: v.shape for name, v in after.items()} == {n: v[:, t].shape for n, v in memories.items()}
        for row in range(2):
            past = x[row, max(begin[t][row], t + 1 - CONTEXT) : t]
            whole = layer(torch.cat([past, noise(2, DIM, seed=5)[row][None]])[None])
            torch.testing.assert_close(now[row], whole[0, -1], rtol=0, atol=1e-5)


@BOTH
@torch.no_grad()
def test_an_episode_is_as_if_cut_there(kind: str) -> None:
    layer, x = transformer(kind), noise(2, T, DIM)
    out = layer(x, episodes())
    torch.testing.assert_close(out[0], torch.cat([layer(x[:1, :3]), layer(x[:1, 3:])], dim=1)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out[1], layer(x)[1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_trace_is_one_copy() -> None:
    memory = transformer().trace(noise(2, T, DIM))[1]
    assert memory["inputs"].shape == (2, T + 1, POSITIONS - 1, DIM)
    assert memory["inputs"].untyped_storage().nbytes() == 4 * 2 * (T + POSITIONS - 1) * DIM


@BOTH
def test_gradients_of_steps_are_those_of_the_whole(kind: str) -> None:
    layer, x = transformer(kind).double(), noise(2, T, DIM).double()
    weight = noise(2, T, layer(x).shape[-1], seed=1).double()
    whole, steps = x.clone().requires_grad_(), x.clone().requires_grad_()
    parameters = list(layer.parameters())
    expected = torch.autograd.grad((layer(whole) * weight).sum(), [whole, *parameters])
    found = torch.autograd.grad((stepped(layer, steps) * weight).sum(), [steps, *parameters])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_rows_may_remember_more_or_less_and_nothing_given_changes() -> None:
    layer, x = transformer(), noise(2, T, DIM)
    memory = layer.trace(x)[1]
    mixed = {name: torch.stack([value[0, 1], value[1, 6]]) for name, value in memory.items()}
    before = each(Tensor.clone, mixed)
    out, _ = layer.step(x[:, 0], mixed)
    assert all(torch.equal(mixed[name], before[name]) for name in mixed)
    for row, t in ((0, 1), (1, 6)):
        alone, _ = layer.step(x[row : row + 1, 0], each(lambda value, row=row, t=t: value[row : row + 1, t], memory))
        torch.testing.assert_close(out[row], alone[0], rtol=0, atol=1e-5)


def torchs(layer: AbsoluteTransformer, x: Tensor, pre: bool) -> list[Tensor]:
    """The outputs of both blocks, with torch's own attention and norms written out."""
    mask = torch.ones(T, T).triu(1).bool()
    outs = []
    for block in layer._blocks:
        inner = block.heads * block.head_dim
        attention = nn.MultiheadAttention(inner, block.heads, bias=False, batch_first=True)
        attention.in_proj_weight.copy_(torch.eye(inner).repeat(3, 1))
        attention.out_proj.weight.copy_(torch.eye(inner))
        ln = lambda x: F.layer_norm(x, (DIM,), eps=1e-6)
        q, k, v = block.qkv(ln(x) if pre else x).chunk(3, dim=-1)
        x = x + block.out(attention(q, k, v, attn_mask=mask, need_weights=False)[0])
        first, _, second = block.mlp
        if pre:
            x = x + second(F.relu(first(ln(x))))
        else:
            x = ln(x)
            x = ln(x + second(F.relu(first(x))))
        outs.append(x)
    return outs


@torch.no_grad()
def test_it_is_storms() -> None:
    """Learned positions are added, then a norm, then blocks with a norm after each part; the last block's output."""
    layer, x = transformer("storm"), noise(2, T, DIM)
    assert isinstance(layer.table, nn.Embedding)
    placed = F.layer_norm(x + layer.table.weight[:T], (DIM,), eps=1e-6)
    torch.testing.assert_close(layer(x), torchs(layer, placed, pre=False)[-1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_it_is_transdreamers() -> None:
    """Sines are added, blocks with a norm before each part; the outputs of all blocks side by side."""
    layer, x = transformer("transdreamer"), noise(2, T, DIM)
    placed = x + sincos(torch.arange(T), DIM).float()
    torch.testing.assert_close(layer(x), torch.cat(torchs(layer, placed, pre=True), dim=-1), rtol=0, atol=1e-5)


def test_as_many_parameters_as_the_papers_code() -> None:
    """STORM: 64 positions, the norm of inputs, two blocks. TransDreamer: two blocks."""
    count = lambda layer: sum(p.numel() for p in layer.parameters())
    block = 4 * 512 * 512 + 2 * 512 * 1024 + 1024 + 512 + 2 * 1024
    assert count(AbsoluteTransformer(512, 2, 8, 1024)) == 64 * 512 + 1024 + 2 * block == 4_235_264
    sines = AbsoluteTransformer(
        600, 2, 8, 1024, positions=64, context=48, head_dim=64, table="sines", norm="pre", every=True, eps=1e-5
    )
    block = 4 * 600 * 512 + 2 * 600 * 1024 + 1024 + 600 + 2 * 1200
    assert count(sines) == 2 * block == 4_923_248


def test_dropout_is_for_training_and_not_for_acting() -> None:
    layer, x = transformer(), noise(2, T, DIM)
    expected = stepped(layer, x)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    torch.testing.assert_close(stepped(layer, x), expected)


@BOTH
def test_recomputing_changes_nothing_and_reads_twice(kind: str) -> None:
    found, reads = [], []
    for recompute in (False, True):
        layer, x = transformer(kind).train(), noise(2, T, DIM).requires_grad_()
        layer.recompute = recompute
        for block in layer._blocks:
            block.qkv.register_forward_hook(lambda *_, recompute=recompute: reads.append(recompute))
        torch.manual_seed(1)
        out = layer(x, episodes())
        found.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert reads == 2 * [False] + 4 * [True]


def test_what_positions_do_not_allow_is_told() -> None:
    with pytest.raises(UserError, match="context of 64 tokens"):
        AbsoluteTransformer(DIM, 2, HEADS, 16, positions=64, context=64)
    with pytest.raises(UserError, match="5 heads do not divide"):
        AbsoluteTransformer(DIM, 2, 5, 16)
    with pytest.raises(UserError, match="positions of sines need an even width"):
        AbsoluteTransformer(9, 2, 3, 16, table="sines")
    layer = transformer(positions=6, context=3)
    x = noise(2, T, DIM)
    with pytest.raises(UserError, match="a clip of 9 tokens is longer than 6 positions"):
        layer(x)
    with pytest.raises(UserError, match="6 remembered tokens and 1 more exceed 6 positions: trim"):
        stepped(layer, x)
    with pytest.raises(UserError, match=r"tokens of \(3,\) rows with a memory of \(2,\)"):
        layer.step(noise(3, DIM), layer.blank(2, x))


@torch.no_grad()
def test_a_long_clip_is_refused_whatever_its_episodes() -> None:
    """It would be right while episodes are short, and end a run once an agent survives."""
    layer, x = transformer(positions=6, context=3), noise(2, T, DIM)
    first = torch.arange(T).remainder(3).eq(0).expand(2, -1)
    with pytest.raises(UserError, match="longer than 6 positions"):
        layer(x, first)
