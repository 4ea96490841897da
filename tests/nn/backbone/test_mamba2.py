import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.nn.backbone import mamba2
from innerworld.nn.backbone.layer import Memory, Stack
from innerworld.nn.backbone.mamba2 import Mamba2, NormedLinear

B, T, K, DIM = 3, 11, 4, 8
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-10}


def stack(dtype: torch.dtype = torch.float32, groups: int = 1, layers: int = 2) -> Stack:
    torch.manual_seed(0)
    config = Mamba2.Config(state=5, head=4, groups=groups, chunk=4)
    found = Stack([Mamba2(DIM, config, layers) for _ in range(layers)]).to(dtype)
    for parameter in found.parameters():  # norms too
        torch.nn.init.normal_(parameter, std=0.5) if parameter.ndim == 1 else None
    return found


def tokens(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cuts(seed: int, times: int = T) -> Tensor:
    return torch.rand(B, T + 1, generator=torch.Generator().manual_seed(seed))[:, :times] < 0.25


def stepped(net: Stack, x: Tensor, first: Tensor | None) -> tuple[Tensor, Memory]:
    """Token by token: what comes of each, and the memory before each and after the last; `first` `b t+1`."""
    memory, found, memories = net.blank(len(x), x), [], []
    fresh = net.blank(len(x), x)
    for i in range(x.shape[1] + 1):
        if first is not None:
            cut = {name: first[:, i].view(-1, *[1] * (value.ndim - 1)) for name, value in fresh.items()}
            memory = {name: torch.where(cut[name], fresh[name], value) for name, value in memory.items()}
        memories.append(memory)
        if i < x.shape[1]:
            y, memory = net.step(x[:, i], memory)
            found.append(y)
    return torch.stack(found, 1), {name: torch.stack([m[name] for m in memories], 1) for name in memory}


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_steps_and_their_memories_are_forward_and_trace(dtype, groups, seed, monkeypatch):
    monkeypatch.setattr(mamba2, "TOKENS", 2 * T)  # two rows at once, then the third
    net, x = stack(dtype, groups), tokens(B, T, dtype=dtype)
    first = None if seed is None else cuts(seed, T + 1)
    within = None if first is None else first[:, :-1]
    y, memories = stepped(net, x, first)
    same = {"atol": CLOSE[dtype], "rtol": CLOSE[dtype]}
    torch.testing.assert_close(net(x, within), y, **same)
    traced, memory = net.trace(x, first)
    torch.testing.assert_close(traced, y, **same)
    assert memory.keys() == memories.keys() and not any(value.requires_grad for value in memory.values())
    for name, value in memory.items():
        torch.testing.assert_close(value, memories[name].detach(), **same)
    with torch.no_grad():
        torch.testing.assert_close(net(x, within), y, **same)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_forward_are_those_of_stepping(groups):
    net, x, first = stack(torch.float64, groups), tokens(B, T, dtype=torch.float64).requires_grad_(), cuts(0, T + 1)
    weight = tokens(B, T, dtype=torch.float64, seed=1)
    over = [x, *net.parameters()]
    forward = torch.autograd.grad((weight * net(x, first[:, :-1])).sum(), over)
    traced = torch.autograd.grad((weight * net.trace(x, first)[0]).sum(), over)
    steps = torch.autograd.grad((weight * stepped(net, x, first)[0]).sum(), over)
    for one, other, third in zip(forward, traced, steps, strict=True):
        torch.testing.assert_close(one, third, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_roll_is_a_loop_of_steps(grad, shared):
    net, imagined = stack(), tokens(5, B, K)
    _, memory = net.trace(tokens(B, T), cuts(0, T + 1))
    one = {name: value[:, -1:].expand(-1, K, *value.shape[2:]) for name, value in memory.items()}
    memory = one if shared else {name: value[:, :K] for name, value in memory.items()}
    before = {name: value.clone() for name, value in memory.items()}
    with torch.set_grad_enabled(grad):
        roll = net.roll(memory, 5)
        found = torch.stack([roll(x) for x in imagined])
    rows = {name: value.flatten(0, 1) for name, value in memory.items()}
    for x, y in zip(imagined, found, strict=True):
        expected, rows = net.step(x.flatten(0, 1), rows)
        torch.testing.assert_close(y.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(before[name], memory[name]) for name in memory)


def test_a_roll_without_gradients_goes_on_from_one_with_them():
    """What the graph needs is not written over."""
    net, imagined = stack(), tokens(3, B, K).requires_grad_()
    memory = {name: value[:, :K] for name, value in net.trace(tokens(B, T))[1].items()}
    roll = net.roll(memory, 4)
    y = roll(imagined[0]) + roll(imagined[1])
    with torch.no_grad():
        roll(imagined[2])
    (gradient,) = torch.autograd.grad(y.sum(), imagined)
    assert gradient[:2].any()


def test_stepping_changes_nothing_it_was_given_and_rows_are_independent():
    net, x = stack(), tokens(B, T)
    _, memory = net.trace(x)
    memory = {name: value[:, 5] for name, value in memory.items()}
    before = {name: value.clone() for name, value in memory.items()}
    given = tokens(B, seed=2)
    y, _ = net.step(given, memory)
    assert all(torch.equal(before[name], memory[name]) for name in memory)
    alone, _ = net.step(given[1:2], {name: value[1:2] for name, value in memory.items()})
    torch.testing.assert_close(y[1:2], alone)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


def test_recomputing_gives_the_same_gradients():
    net, x = stack(), tokens(B, T)
    plain = torch.autograd.grad(net(x, cuts(0)).square().sum(), [*net.parameters()])
    net.recompute = True
    for one, other in zip(plain, torch.autograd.grad(net(x, cuts(0)).square().sum(), [*net.parameters()]), strict=True):
        torch.testing.assert_close(one, other)


def test_the_fused_norm_has_the_right_gradients():
    rng = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 6), (6,), (4, 6))
    inputs = [torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(lambda *inputs: NormedLinear.apply(*inputs, 1e-5), inputs)
    x, norm, weight = inputs
    expected = torch.nn.functional.rms_norm(x, (6,), norm, 1e-5) @ weight.T
    torch.testing.assert_close(NormedLinear.apply(x, norm, weight, 1e-5), expected)


def test_under_autocast_the_state_stays_precise():
    net, x = stack(), tokens(B, T)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x, cuts(0))
        y.sum().backward()
        step, memory = net.step(x[:, 0], net.blank(B, x))
    assert y.dtype == step.dtype == torch.float32 and memory["0.state"].dtype == torch.float32
    torch.testing.assert_close(y, net(x, cuts(0)), atol=0.1, rtol=0.1)


@torch.no_grad()
def test_a_trace_in_half_precision_is_rounded_once():
    """Not at every token: of a state that decays slowly that would lose what is small beside it."""
    net = stack(layers=1)
    torch.nn.init.constant_(dict(net.named_parameters())["layers.0.dt_bias"], -6.0)
    x = tokens(B, 400).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        full, half = (net.trace(like)[1]["0.state"][:, -1] for like in (x.float(), x))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, full.bfloat16(), rtol=0.01, atol=1e-6)


def test_drama_has_as_many_parameters_as_the_paper_says():
    """Two layers, and around them its stem (Linear and norm) and a last norm: 3.74 M with Pong's six actions."""
    layers = Stack([Mamba2(512, Mamba2.Config(), layers=2) for _ in range(2)])
    count = sum(parameter.numel() for parameter in layers.parameters())
    stem = (1024 + 6) * 512 + 512 + 512
    assert count == 3_208_608 and f"{(count + stem + 512) / 1e6:.2f}" == "3.74"


def test_it_begins_as_published():
    torch.manual_seed(0)
    layer = Mamba2(512, Mamba2.Config(), layers=4)
    dt, rates = torch.nn.functional.softplus(layer.dt_bias), torch.exp(layer.A_log)
    assert dt.min() >= 1e-3 * 0.99 and dt.max() <= 0.1 * 1.01
    assert rates.min() >= 1 and rates.max() <= 16 and (layer.D == 1).all()
    assert float(layer.out.weight.detach().abs().max()) == pytest.approx(1024**-0.5 / 2, rel=0.01)  # for four layers


def test_what_a_roll_holds_is_told():
    layer = Mamba2(DIM, Mamba2.Config(state=5, head=4))
    blank = layer.blank(1, tokens(1))
    assert layer.held(B, K, 16, shared=True) == B * K * sum(value.numel() for value in blank.values())
    assert layer.held(B, K, 4096, shared=False) == layer.held(B, K, 16, shared=True)


@pytest.mark.parametrize("settings", [{"head": 5}, {"head": 4, "groups": 3}])
def test_sizes_that_do_not_divide_are_named(settings):
    with pytest.raises(UserError, match="do not divide"):
        Mamba2(DIM, Mamba2.Config(**settings))


@pytest.mark.parametrize("spoilt", ["A_log", "dt"])
def test_a_decay_that_is_not_finite_is_named(spoilt):
    layer, x = Mamba2(DIM, Mamba2.Config(head=4)), tokens(B, T)
    memory = layer.blank(B, x)
    if spoilt == "A_log":
        layer.A_log.data[1] = 100.0  # whose exponential is infinite
    else:
        x[1, 3] = torch.nan
    futures = {name: value[:, None] for name, value in memory.items()}
    for run in (
        lambda: layer(x), lambda: layer.trace(x), lambda: layer.step(x[:, 3], memory),
        lambda: layer.roll(futures, 1)(x[:, 3:4]),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"not finite because of {spoilt}"):
            run()


def test_a_memory_of_other_rows_is_refused():
    layer, x = Mamba2(DIM, Mamba2.Config(head=4)), tokens(B)
    memory = layer.blank(B + 1, x)
    with pytest.raises(UserError, match="rows"):
        layer.step(x, memory)
    with pytest.raises(UserError, match="rows"):
        layer.roll({name: value[:, None] for name, value in memory.items()}, 1)(x[:, None])


@pytest.mark.slow  # transformers takes seconds to import
def test_it_is_what_transformers_has():
    transformers = pytest.importorskip("transformers")
    sizes = {"num_heads": 4, "head_dim": 4, "state_size": 5, "n_groups": 2, "conv_kernel": 4, "expand": 2}
    config = transformers.Mamba2Config(
        vocab_size=3, pad_token_id=0, bos_token_id=1, eos_token_id=2, hidden_size=DIM, num_hidden_layers=2,
        chunk_size=8, layer_norm_epsilon=1e-5, **sizes,
    )  # fmt: skip
    peer, net, x = transformers.Mamba2Model(config), stack(groups=2), tokens(B, T)
    for block, layer in zip(peer.layers, net.layers, strict=True):
        assert isinstance(layer, Mamba2)
        ours = {
            "norm.weight": layer.norm.weight, "mixer.in_proj.weight": layer.into.weight,
            "mixer.conv1d.weight": layer.taps.T[:, None], "mixer.conv1d.bias": layer.bias,
            "mixer.A_log": layer.A_log, "mixer.D": layer.D, "mixer.dt_bias": layer.dt_bias,
            "mixer.norm.weight": layer.gated_norm.weight, "mixer.out_proj.weight": layer.out.weight,
        }  # fmt: skip
        block.load_state_dict({name: value.detach() for name, value in ours.items()})
    theirs = peer(inputs_embeds=x, use_cache=False).last_hidden_state
    torch.testing.assert_close(peer.norm_f(net(x)), theirs, atol=1e-4, rtol=1e-4)
