"""The bound that holds, the one that was published and does not, and the constant between them."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.certificate import _jacobian_norm, certificate
from innerworld.models import JEPA, build
from innerworld.models.jepa import JEPAConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

PLACE = Spec({"place": (9,)}, 2)


class Scaled(WorldModel):
    """h(o) = c·o, g(s) = s / c, f(s, a) = s: every hypothesis of the published statement holds, ε = 0."""

    Config = Config
    card = Card(name="scaled", predicts="latents", decodes=True, backbone="none", paper="")

    def __init__(self, c: float, away: float = 0.0) -> None:
        super().__init__(Config(), PLACE)
        self.c, self.away = c, away
        self.weight = nn.Parameter(torch.zeros(()))

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": self.c * obs["place"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"z": state["z"]}

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"place": state["z"] / self.c + self.away}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return self.weight, {}


@pytest.mark.parametrize("c", [0.1, 1.0, 2.0, 10.0])
def test_the_published_statement_fails_under_rescaling_and_the_corrected_one_holds(c: float) -> None:
    """Card § 1.6: c = 2 gives 8.461 against 4.230, c = 10 fails, c ≤ 1 holds."""
    found = certificate(Scaled(c), random_clip(PLACE, b=16, t=4))
    assert found["epsilon"] == pytest.approx(0, abs=1e-5)
    assert found["latent"] == pytest.approx(c * found["generative"], rel=1e-4)
    assert found["published_holds"] == (c <= 1)
    assert found["lipschitz"] == pytest.approx(c, rel=1e-3)
    assert found["holds"] == 1 and found["holds_share"] == 1
    assert found["bound"] == pytest.approx(found["latent"], rel=1e-3)  # and it is tight


def test_what_the_decoder_loses_is_in_epsilon() -> None:
    found = certificate(Scaled(2.0, away=0.5), random_clip(PLACE, b=8, t=4))
    assert found["epsilon"] == pytest.approx(2 * 0.5 * 3, rel=1e-4)  # nine numbers, each off by 0.5
    assert found["holds"] == 1 and found["exact"] >= found["latent"]


def test_a_constant_from_other_moments_may_be_too_small() -> None:
    """h stretches only where the first half of the moments never is: the certificate must be able to fail."""

    class Bent(Scaled):
        def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
            steep = 1 + 9 * torch.sigmoid(50 * (obs["place"][:, :1] - 5))
            return {"z": steep * obs["place"]}

        def decode(self, state: State) -> dict[str, Tensor]:
            return {"place": state["z"] * 0}

    clip = random_clip(PLACE, b=1, t=2)
    clip.obs["place"][:] = 1
    clip.obs["place"][:, 2] = 10  # both moments: the second alone is steep
    found = certificate(Bent(1.0), clip)
    assert found["lipschitz"] < 10 and found["holds_share"] == 0
    assert found["exact"] >= found["latent"]


def test_the_power_iteration_finds_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 9)
    at = {"place": torch.randn(3, 9), "still": torch.zeros(3, 2)}
    norms = _jacobian_norm(lambda obs: obs["place"] @ weight.T, at, ["place"], 60, seed=0)
    torch.testing.assert_close(norms, torch.linalg.svdvals(weight)[0].expand(3), rtol=1e-3, atol=0)


def test_the_jacobian_is_measured_where_a_layer_cannot_be_differentiated_twice() -> None:
    """As fast norms of convolutions; a second derivative would say 0, silently."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return 3 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return 3 * grad

    at = {"place": torch.randn(2, 4)}
    norms = _jacobian_norm(lambda obs: Once.apply(obs["place"]), at, ["place"], 3, seed=0)  # pyright: ignore
    torch.testing.assert_close(norms, torch.full((2,), 3.0), rtol=1e-3, atol=0)


def test_the_jacobian_of_each_row_is_its_own() -> None:
    at = {"place": torch.tensor([[1.0], [2.0], [3.0]])}
    norms = _jacobian_norm(lambda obs: obs["place"].square(), at, ["place"], 3, seed=0)
    torch.testing.assert_close(norms, torch.tensor([2.0, 4.0, 6.0]), rtol=1e-3, atol=0)


def test_an_encoder_that_jumps_has_secants_only() -> None:
    class Jumps(Scaled):
        def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
            return {"z": obs["place"].sign()}

        def decode(self, state: State) -> dict[str, Tensor]:
            return {"place": state["z"]}

    found = certificate(Jumps(1.0), random_clip(PLACE, b=16, t=4))
    assert found["lipschitz_jacobian"] == 0 and found["lipschitz"] == found["lipschitz_secant"] > 0


RSSM_TINY = {"deter": 64, "hidden": 32, "stoch": 8, "classes": 4, "depth": 8, "units": 32, "layers": 1, "mults": (1, 2)}
RSSM_TINY |= {"image": "strided", "image_size": 8, "latent": "gaussian"}
VAE_TINY = {"z": 6, "hidden": 16, "mixtures": 3, "units": 16, "bins": 41, "image_size": 8, "stages": 1, "depth": 4}
GLP_TINY = {"jepa": {"channels": 4, "latent": 8, "hidden": 16, "slices": 16}, "codec": {"width": 8}}
GLP_TINY |= {"decoder": {"dim": 16, "depth": 2, "heads": 2, "steer": 16}}


VIDEO_TINY = {"codec": {"width": 4}, "backbone": {"dim": 16, "depth": 1, "heads": 2}, "steps": 2}


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("rssm", RSSM_TINY),
        ("world_models", VAE_TINY | {"image": "strided"}),
        ("glp", GLP_TINY),
        ("video", VIDEO_TINY),
    ],
)
def test_families_are_certified_through_the_contract(family: str, values: dict) -> None:
    torch.manual_seed(0)
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    model = build(family, values, spec).train()
    state = torch.get_rng_state()
    found = certificate(model, random_clip(spec, b=3, t=4))
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.tensor(value).isfinite() for value in found.values())
    assert found["exact"] >= found["latent"] * (1 - 1e-5)
    assert found["lipschitz"] >= found["lipschitz_secant"] > 0 and found["generative"] > 0
    assert (found["lipschitz_jacobian"] > 0) == (family != "video")  # its codec lets no gradient through


def test_a_family_without_a_decoder_is_refused() -> None:
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    with pytest.raises(UserError, match="no decoder to certify"):
        certificate(JEPA(JEPAConfig(channels=2, latent=6, hidden=8), spec), random_clip(spec, 2, 3))


def test_one_moment_is_too_few() -> None:
    with pytest.raises(UserError, match="two moments"):
        certificate(Scaled(1.0), random_clip(PLACE, b=1, t=1))
