"""The collapse watch: known matrices give known numbers, and looking changes nothing."""

from __future__ import annotations

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.collapse import CollapseWatch, alignment, collapse, effective_rank, uniformity
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel


class Linear(WorldModel):
    """A linear look at the state, with dropout, a frozen part and noise that only training should see."""

    class Config(Config):
        dim: int = Field(default=6, description="size of the latent")

    def __init__(self, config: Linear.Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.look = nn.Linear(3, config.dim)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        torch.rand(1)  # a model that samples its beliefs
        return {"z": self.frozen(self.dropout(self.look(obs["state"])))}

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return state

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return self.look(clip.obs["state"]).square().mean(), {}


def build() -> Linear:
    torch.manual_seed(0)
    model = Linear(Linear.Config(), Spec({"state": (3,)}, action=2)).train()
    model.frozen.eval()
    return model


def clip(b: int = 9, t: int = 5) -> Clip:
    rng = torch.Generator().manual_seed(1)
    obs = {"state": torch.randn(b, t + 1, 3, generator=rng), "image": torch.zeros(b, t + 1, 4, 4, 3, dtype=torch.uint8)}
    return Clip(obs, torch.zeros(b, t, 2), torch.zeros(b, t), torch.zeros(b, t, dtype=torch.bool))


def noise(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(2))


def test_isotropic_features_use_every_dimension() -> None:
    orthonormal = torch.linalg.qr(noise(64, 8).double()).Q
    metrics = collapse(orthonormal)
    assert metrics["effective_rank"] == pytest.approx(8, rel=1e-4)
    assert metrics["dead_dimensions"] == 0
    assert metrics.keys() == {"effective_rank", "dead_dimensions", "std_mean", "std_min"}


def test_rank_one_and_rank_two() -> None:
    line = noise(64, 1) @ noise(1, 8)
    assert effective_rank(line) == pytest.approx(1, rel=1e-4)
    basis = torch.linalg.qr(noise(64, 2).double()).Q
    assert effective_rank(basis @ torch.eye(2, 8).double()) == pytest.approx(2, rel=1e-4)
    weighted = basis * torch.tensor([3.0, 1.0])  # exp of the entropy of (3/4, 1/4)
    assert effective_rank(weighted) == pytest.approx(4 / 3**0.75, rel=1e-4)


def test_one_point_with_a_little_noise_has_collapsed() -> None:
    point = torch.ones(64, 8) + 1e-4 * noise(64, 8)
    assert collapse(point)["effective_rank"] < 1.01
    assert collapse(point)["std_mean"] < 2e-4
    same = collapse(torch.full((64, 8), 0.3))
    assert (same["effective_rank"], same["dead_dimensions"]) == (pytest.approx(1, rel=1e-4), 8)
    assert effective_rank(torch.zeros(64, 8)) == pytest.approx(1, rel=1e-4)


def test_dead_dimensions_and_spread() -> None:
    features = noise(1000, 4) * torch.tensor([2.0, 1.0, 1e-4, 0.0])
    metrics = collapse(features)
    assert metrics["dead_dimensions"] == 2
    assert metrics["std_min"] == 0
    assert metrics["std_mean"] == pytest.approx(0.75, rel=0.05)


def test_probe_reads_a_state_that_is_there_only() -> None:
    features, state = noise(200, 8), noise(200, 8) @ noise(8, 3)
    assert collapse(features, state)["probe_r2"] > 0.99
    assert collapse(features[:, :1], state)["probe_r2"] < 0.9
    assert "probe_r2" not in collapse(features, torch.ones(200, 2))


def test_the_probe_is_measured_on_rows_it_did_not_see() -> None:
    features, state = noise(200, 80), torch.rand(200, 1, generator=torch.Generator().manual_seed(3))
    assert collapse(features, state)["probe_r2"] < 0  # 100 rows are learnt by heart with 80 features


@pytest.mark.parametrize("features", [torch.zeros(3), torch.zeros(1, 3), torch.full((3, 3), torch.inf)])
def test_features_it_cannot_measure(features: Tensor) -> None:
    with pytest.raises(UserError, match="collapse: "):
        collapse(features)


def test_alignment_is_the_distance_of_directions() -> None:
    x = noise(50, 8)
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-12)
    assert alignment(x, -x) == pytest.approx(4)
    one, other = torch.eye(8)[:4], torch.eye(8)[4:]
    assert alignment(one, other) == pytest.approx(2)
    assert alignment(x.view(5, 10, 8), x.view(5, 10, 8).roll(1, 1)) > 1
    with pytest.raises(UserError, match=r"alignment: pairs of shapes \(2, 3\) and \(3, 3\)"):
        alignment(torch.zeros(2, 3), torch.zeros(3, 3))


def test_uniformity_falls_as_directions_spread() -> None:
    assert uniformity(torch.ones(9, 4) * torch.arange(1, 10).unsqueeze(1)) == pytest.approx(0)  # one direction
    assert uniformity(torch.eye(5)) == pytest.approx(-4)  # every pair at a right angle: log e^(-2 * 2)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(pair) == pytest.approx(-8) and uniformity(pair, t=1) == pytest.approx(-4)
    narrow = noise(64, 8) + 10
    assert uniformity(noise(64, 8)) < uniformity(narrow) < 0
    many = noise(5000, 8)
    assert uniformity(many) == pytest.approx(uniformity(many[:1024]), abs=0.05)
    with pytest.raises(UserError, match="uniformity: features have shape"):
        uniformity(torch.zeros(1, 3))


@pytest.mark.parametrize("b", [2, 9])
def test_watch_measures_the_beliefs_along_the_clip(b: int) -> None:
    model, heldout = build(), clip(b, 40)
    with torch.no_grad():
        beliefs = model.look(heldout.obs["state"])
    metrics = CollapseWatch(model, heldout, "state")()
    expected = collapse(beliefs.flatten(0, 1), heldout.obs["state"].flatten(0, 1), b // 2 * 41)
    expected |= {
        "alignment": alignment(beliefs[:, :-1], beliefs[:, 1:]),
        "uniformity": uniformity(beliefs.flatten(0, 1)),
    }
    assert metrics == pytest.approx(expected)
    assert metrics["probe_r2"] > 0.99
    assert 1.5 < metrics["effective_rank"] <= 4.1
    assert "probe_r2" not in CollapseWatch(model, heldout)()


def test_watch_leaves_no_trace() -> None:
    model = build()
    watch = CollapseWatch(model, clip(), "state")
    state = torch.get_rng_state()
    watch()
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.dropout.training
    assert not model.frozen.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_watch_restores_the_mode_when_the_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(model, "watch", lambda clip: {}["z"])
    with pytest.raises(KeyError):
        CollapseWatch(model, clip())()
    assert model.training


def test_watch_warns_once_when_a_collapse_stays(caplog: pytest.LogCaptureFixture) -> None:
    model = build()
    watch = CollapseWatch(model, clip())
    weight = model.look.weight.detach().clone()
    watch()
    with torch.no_grad():
        model.look.weight.zero_()
    assert "alarm" not in watch() and not caplog.messages
    assert watch()["alarm"] == watch()["alarm"] == 1
    assert len(caplog.messages) == 1
    with torch.no_grad():
        model.look.weight.copy_(weight)
    assert "alarm" not in watch()
    assert "the features have collapsed (effective rank 1.00 of 6)" in caplog.text


def test_watch_refuses_what_it_cannot_probe() -> None:
    with pytest.raises(UserError, match="Did you mean 'state'"):
        CollapseWatch(build(), clip(), "sate")
    with pytest.raises(UserError, match="'image': it is not a vector"):
        CollapseWatch(build(), clip(), "image")
    with pytest.raises(UserError, match="at least two held-out clips"):
        CollapseWatch(build(), clip(1), "state")
