import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from innerworld.nn import linear
from innerworld.nn.linear import Linear, faster, gradients, outer, product


@pytest.fixture(params=[False, True])
def onednn(request, monkeypatch) -> bool:
    """Both ways on every machine, and both for a handful of products."""
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(linear, "_foreign", lambda: request.param)
    monkeypatch.setattr(linear, "WORTH", 1)
    monkeypatch.setattr(linear, "WORTH_GRAPH", 1)
    return request.param


@pytest.fixture
def never(monkeypatch) -> None:
    """A machine and sizes at which oneDNN would be taken, and nobody may."""
    monkeypatch.setattr(linear, "_foreign", lambda: True)
    monkeypatch.setattr(linear, "WORTH", 1)
    monkeypatch.setattr(linear, "WORTH_GRAPH", 1)
    monkeypatch.setattr(linear, "_by_onednn", lambda *_: pytest.fail("by oneDNN"))


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(found: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(found, right, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("shape", [(24,), (1, 24), (37, 24), (16, 31, 24), (2, 0, 24)])
@pytest.mark.parametrize("biased", [False, True])
def test_it_and_its_gradients_are_torchs(shape, biased, onednn):
    x, weight, to_y = drawn(*shape).requires_grad_(), drawn(40, 24, seed=1).requires_grad_(), drawn(*shape[:-1], 40)
    bias = drawn(40, seed=2).requires_grad_() if biased else None
    given = [of for of in (x, weight, bias) if of is not None]
    y, expected = product(x, weight, bias), F.linear(x, weight, bias)
    assert faster(x, weight) == (onednn and x.numel() > 0) and y.is_contiguous()
    close(y, expected)
    for found, right in zip(
        torch.autograd.grad(y, given, to_y), torch.autograd.grad(expected, given, to_y), strict=True
    ):
        close(found, right)
    with torch.no_grad():
        close(product(x, weight, bias), expected)


@pytest.mark.parametrize(("n", "i", "o"), [(100, 24, 40), (100, 40, 24), (119, 33, 33)])
def test_gradients_by_hand_are_torchs(n, i, o, onednn):
    x, weight, to_y = drawn(n, i).requires_grad_(), drawn(o, i, seed=1).requires_grad_(), drawn(n, o, seed=2)
    right = torch.autograd.grad(F.linear(x, weight), [x, weight], to_y)
    for found, expected in zip(gradients(to_y, x.detach(), weight.detach()), right, strict=True):
        close(found, expected)
    close(outer(to_y, x.detach()), right[1])


def test_matrices_with_gaps_in_memory_are_right_and_closed_up_before(onednn, monkeypatch):
    seen = []
    monkeypatch.setattr(linear, "_whole", lambda matrix: seen.append(matrix.is_contiguous()) or matrix.contiguous())
    wide, broad = drawn(50, 48), drawn(40, 48, seed=1)
    close(product(wide[:, :24], broad[:, 24:]), F.linear(wide[:, :24], broad[:, 24:]))
    close(product(wide[:, ::2], broad[:, 24:]), F.linear(wide[:, ::2], broad[:, 24:]))
    spread = drawn(40, seed=2).expand(50, 40)
    close(outer(spread, wide), spread.T @ wide)
    assert not any(seen) and bool(seen) == onednn


def test_whole_matrices_are_not_copied():
    matrix = drawn(30, 20)
    for of in (matrix, matrix.T):
        assert linear._whole(of) is of
    assert linear._whole(matrix[:, :7]).is_contiguous()


@pytest.mark.parametrize("learns", ["x", "weight", "bias"])
def test_what_learns_alone_learns(learns, onednn):
    given = {"x": drawn(50, 24), "weight": drawn(40, 24, seed=1), "bias": drawn(40, seed=2)}
    given[learns].requires_grad_()
    to_y = drawn(50, 40, seed=3)
    found, right = (
        torch.autograd.grad(times(*given.values()), given[learns], to_y)[0] for times in (product, F.linear)
    )
    close(found, right)


def test_gradients_have_gradients(onednn):
    x, weight = drawn(60, 24).requires_grad_(), drawn(40, 24, seed=1).requires_grad_()
    found, right = (
        torch.autograd.grad(
            torch.autograd.grad(times(x, weight).square().sum(), x, create_graph=True)[0].square().sum(), [x, weight]
        )
        for times in (product, F.linear)
    )
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-4)


@pytest.mark.usefixtures("never")
@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")  # within torch
def test_other_dtypes_autocast_and_transforms_go_by_torchs_own():
    x, weight = drawn(512, 24), drawn(40, 24, seed=1)
    assert torch.equal(product(x.double(), weight.double()), F.linear(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert product(x, weight).dtype == torch.bfloat16
    assert torch.func.vmap(lambda row: product(row, weight))(x).shape == (512, 40)
    assert torch.func.grad(lambda weight: product(x, weight).sum())(weight).shape == (40, 24)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, weight)
        tangent = torch.autograd.forward_ad.unpack_dual(product(x, dual)).tangent
    assert tangent is not None and torch.equal(tangent, x @ weight.T)


@pytest.mark.usefixtures("never")
def test_whoever_counts_operations_counts_these():
    x, weight = drawn(512, 24), drawn(40, 24, seed=1)
    with FlopCounterMode(display=False) as counter:
        product(x, weight)
    assert counter.get_total_flops() == 2 * 512 * 24 * 40


def test_few_products_go_by_torchs_own(monkeypatch):
    monkeypatch.setattr(linear, "_foreign", lambda: True)
    x, weight = drawn(linear.WORTH // 2048, 32), drawn(64, 32, seed=1)
    assert faster(x, weight) and not faster(x[:-1], weight)
    weight.requires_grad_()
    x = drawn(linear.WORTH_GRAPH // 2048, 32)
    assert faster(x, weight) and not faster(x[:-1], weight)


def test_a_layer_is_torchs_with_this_product(onednn):
    layer = Linear(24, 40)
    assert isinstance(layer, nn.Linear) and layer.state_dict().keys() == nn.Linear(24, 40).state_dict().keys()
    x = drawn(3, 17, 24)
    close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize(
    ("processor", "capability", "taken"),
    [
        ("vendor_id\t: AuthenticAMD\n", "AVX512", True),
        ("vendor_id\t: AuthenticAMD\n", "AVX2", False),
        ("vendor_id\t: GenuineIntel\n", "AVX512", False),
        ("arm", "DEFAULT", False),
    ],
)
def test_where_it_is_taken(processor, capability, taken, monkeypatch):
    monkeypatch.setattr(linear, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    linear._foreign.cache_clear()
    try:
        assert linear._foreign() == (taken and torch.backends.mkldnn.is_available())
    finally:
        linear._foreign.cache_clear()
