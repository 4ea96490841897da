import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from innerworld.nn.backbone import ssd


def parts(b: int, t: int, h: int, g: int, seed: int, dtype: torch.dtype, p: int = 3, n: int = 5) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)
    rates = -16 * torch.rand(h, generator=rng, dtype=torch.float64).to(dtype)
    return {
        "x": draw(b, t, h, p), "dt": draw(b, t, h).abs(), "A": rates, "B": draw(b, t, g, n), "C": draw(b, t, g, n),
        "D": draw(h),
    }  # fmt: skip


def cuts(b: int, t: int, seed: int) -> Tensor:
    return torch.rand(b, t, generator=torch.Generator().manual_seed(seed)) < 0.2


def recurrence(x, dt, A, B, C, D, state=None, first=None) -> tuple[Tensor, Tensor, Tensor]:
    """As the paper writes it, time by time: y, the last state, all states."""
    b, t, h, p = x.shape
    B, C = (part.repeat_interleave(h // part.shape[2], dim=2) for part in (B, C))
    state = x.new_zeros(b, h, B.shape[-1], p) if state is None else state
    y, states = [], []
    for i in range(t):
        if first is not None:
            state = torch.where(first[:, i, None, None, None], 0, state)
        inflow = torch.einsum("bhn,bhp,bh->bhnp", B[:, i], x[:, i], dt[:, i])
        state = torch.exp(dt[:, i] * A)[..., None, None] * state + inflow
        y.append(torch.einsum("bhn,bhnp->bhp", C[:, i], state) + D[:, None] * x[:, i])
        states.append(state)
    return torch.stack(y, 1), state, torch.stack(states, 1)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("t", "chunk", "g"), [(1, 16, 1), (16, 16, 2), (37, 16, 4), (9, 4, 1), (5, 1, 2)])
@pytest.mark.parametrize("cut", [False, True])
def test_the_chunked_scan_is_the_recurrence(dtype, close, t, chunk, g, cut):
    given = parts(2, t, 4, g, seed=t, dtype=dtype)
    state = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    first = cuts(2, t, seed=t) if cut else None
    for found, expected in zip(
        ssd.scan(**given, chunk=chunk, state=state, first=first), recurrence(**given, state=state, first=first)[:2],
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(found, expected, atol=close, rtol=close)


@pytest.mark.parametrize("cut", [False, True])
def test_its_gradients_are_right(cut):
    given = parts(2, 7, 2, 1, seed=0, dtype=torch.float64, p=2, n=3)
    state = torch.randn(2, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [part.requires_grad_() for part in (*given.values(), state)]
    first = cuts(2, 7, seed=3) if cut else None
    run = lambda *inputs: ssd.scan(*inputs[:-1], chunk=3, state=inputs[-1], first=first)
    assert torch.autograd.gradcheck(run, inputs)


def test_a_large_decay_spoils_no_small_one_after_it():
    """Sums of logarithms from one time to another stay exact in float32 where differences of running sums would not."""
    given = parts(1, 16, 1, 1, seed=0, dtype=torch.float32) | {"A": -torch.ones(1)}
    given["dt"] = torch.full((1, 16, 1), 1e-2)
    given["dt"][:, 3] = 1e5
    y, _ = ssd.scan(**given)
    exact, _, _ = recurrence(**{name: part.double() for name, part in given.items()})
    torch.testing.assert_close(y[:, 4:], exact[:, 4:].float(), atol=1e-5, rtol=1e-5)


def test_extreme_decays_and_cuts_give_finite_gradients():
    given = parts(2, 20, 2, 1, seed=0, dtype=torch.float32)
    given["dt"][0] = 0.0  # nothing decays, nothing comes in
    given["dt"][1] *= 1e4  # nothing stays
    inputs = [part.requires_grad_() for part in given.values()]
    y, last = ssd.scan(*inputs, first=cuts(2, 20, seed=1))
    gradients = torch.autograd.grad(y.sum() + last.sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_was_before_a_cut_has_no_part_in_what_comes_after():
    given = parts(1, 20, 2, 1, seed=0, dtype=torch.float32)
    first = torch.zeros(1, 20, dtype=torch.bool)
    first[:, 7] = True
    x = given["x"].clone().requires_grad_()
    y, last = ssd.scan(**given | {"x": x}, first=first)
    (gradient,) = torch.autograd.grad(y[:, 7:].sum() + last.sum(), x)
    assert not gradient[:, :7].any() and gradient[:, 7:].all()


@pytest.mark.parametrize("cut", [False, True])
def test_all_states_are_the_recurrences(cut):
    given = parts(2, 9, 4, 2, seed=0, dtype=torch.float32)
    first = cuts(2, 9, seed=0) if cut else None
    found = torch.empty(2, 9, 4, 5, 3)
    ssd.states(given["x"], given["dt"], given["A"], given["B"], first, out=found)
    torch.testing.assert_close(found, recurrence(**given, first=first)[2])


@pytest.mark.parametrize("inplace", [False, True])
def test_a_step_is_one_time_of_the_scan(inplace):
    rows = 2 * ssd.ROWS + 3
    given = parts(rows, 1, 4, 2, seed=0, dtype=torch.float32)
    state = torch.randn(rows, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    y, last = ssd.scan(**given, state=state)
    now = {name: part.squeeze(1) if part.ndim > 1 else part for name, part in given.items()}
    before = state.clone()
    found, after = ssd.step(state, **now, inplace=inplace)
    torch.testing.assert_close(found, y[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after, last, atol=1e-5, rtol=1e-5)
    assert (after is state) == inplace and torch.equal(state, before) != inplace


def test_kernels_are_called_with_what_they_expect(monkeypatch):
    """Stand-ins of the signatures of mamba_ssm 2.3 and fla-core 0.6, which run on a GPU only, made of our own scan."""

    def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, seq_idx=None):
        first = None if seq_idx is None else seq_idx.diff(dim=1, prepend=seq_idx[:, :1]) > 0
        assert seq_idx is None or seq_idx.dtype == torch.int32
        return ssd.scan(x, dt, A, B, C, D, first=first)[0]

    def chunk_simple_gla(q, k, v, g, scale=None, initial_state=None, output_final_state=False):
        assert scale == 1.0 and q.shape == k.shape and k.shape[:3] == v.shape[:3] == g.shape
        state, found = torch.zeros(*v.shape[:1], *k.shape[2:], v.shape[-1]), []
        for i in range(v.shape[1]):
            state = torch.exp(g[:, i, :, None, None]) * state + k[:, i, ..., None] * v[:, i, :, None]
            found.append((q[:, i, :, None] @ state).squeeze(2))
        return torch.stack(found, dim=1), None

    given = parts(2, 9, 4, 2, seed=0, dtype=torch.float32)
    mamba, fla = ModuleType("mamba"), ModuleType("fla")
    mamba.mamba_chunk_scan_combined, fla.chunk_simple_gla = mamba_chunk_scan_combined, chunk_simple_gla
    first = cuts(2, 9, seed=0)
    first[:, 0] = False
    for module, name, cut in (
        (mamba, "mamba_ssm.ops.triton.ssd_combined", first), (mamba, "mamba_ssm.ops.triton.ssd_combined", None),
        (fla, "fla.ops.simple_gla", first), (fla, "fla.ops.simple_gla", None),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "mamba_ssm.ops.triton.ssd_combined", None)
            patch.setitem(sys.modules, name, module)
            ssd.kernel.cache_clear()
            run = ssd.kernel()
            assert run is not None
            torch.testing.assert_close(run(*given.values(), cut), ssd.scan(**given, first=cut)[0], atol=1e-5, rtol=1e-5)
    ssd.kernel.cache_clear()


def test_without_kernels_there_is_none(monkeypatch):
    for name in ("mamba_ssm.ops.triton.ssd_combined", "fla.ops.simple_gla"):
        monkeypatch.setitem(sys.modules, name, None)
    ssd.kernel.cache_clear()
    assert ssd.kernel() is None
    ssd.kernel.cache_clear()
