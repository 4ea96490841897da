"""What a belief says in known quantities: found, kept with its error, and refused where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator

from innerworld.agent.cost.readout import Decoded, MembersReadout, Readout, columns
from innerworld.envs.two_rooms import Dynamics
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.jepa import JEPA
from innerworld.models.oracle import OracleConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

NAMES = ("x", "y", "angle")
SPEC = Spec({"speed": (3,)}, 2)


def some(n: int = 2000, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = Generator().manual_seed(0)
    features = torch.randn(n, 5, generator=rng)
    values = features @ torch.randn(5, 3, generator=rng) + torch.tensor([1.0, -2.0, 0.0])
    return features, values + noise * torch.randn(n, 3, generator=rng) * torch.tensor([1.0, 2.0, 0.0])


def test_it_reads_what_it_was_fitted_to_and_knows_how_well() -> None:
    features, values = some()
    readout = Readout.fit(features, values, NAMES, penalty=0.0)
    off = readout.of(features) - values
    assert off[:, 2].abs().max() < 1e-3
    torch.testing.assert_close(readout.error, torch.tensor([0.1, 0.2, 0.0]), atol=0.02, rtol=0)
    assert (off[:, :2].abs() <= readout.reach[:2]).float().mean() == pytest.approx(0.99, abs=0.01)


def test_its_error_is_that_of_rows_which_it_was_not_fitted_to() -> None:
    """With more features than rows nothing is left over on its own rows."""
    rng = Generator().manual_seed(0)
    features, values = torch.randn(40, 200, generator=rng), torch.randn(40, 1, generator=rng)
    readout = Readout.fit(features, values, ["x"], penalty=1e-6)
    assert readout.error.item() > 0.5 and (readout.of(features) - values).abs().median() < 1e-3


def test_it_reads_a_models_beliefs() -> None:
    torch.manual_seed(0)
    model, clip = JEPA(JEPA.Config(latent=6, hidden=8), SPEC).eval(), random_clip(SPEC, 8, 1)
    state = model.encode(clip.at(0))
    readout = Readout.fit(model.features(state), clip.at(0)["speed"], NAMES)
    with torch.no_grad():
        assert torch.equal(readout(model, state), readout.of(model.features(state)))
        assert readout(model, state).shape == (8, 3)
    other = JEPA(JEPA.Config(latent=7, hidden=8), SPEC)
    with pytest.raises(UserError, match="reads 6 features, the model has 7"):
        readout(other, other.encode(clip.at(0)))


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    readout = Readout.fit(*some(), NAMES)
    readout.save(tmp_path / "state.safetensors")
    again = Readout.load(tmp_path / "state.safetensors")
    assert again.names == NAMES
    for name in ("weights", "intercept", "error", "reach"):
        assert torch.equal(vars(again)[name], vars(readout)[name])


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readout at"):
        Readout.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello there")
    with pytest.raises(UserError, match="is no readout"):
        Readout.load(tmp_path / "text")


def test_what_a_model_draws_needs_no_fit() -> None:
    oracle = Oracle(OracleConfig(), Spec({"state": (2,), "layout": (4,)}, 2), Dynamics(size=64, speed=4.0))
    state = {"state": torch.tensor([[3.0, 4.0]]), "layout": torch.zeros(1, 4)}
    assert Decoded("state", ("x", "y"))(oracle, state).tolist() == [[3, 4]]
    assert Decoded("layout", ("wall",))(oracle, state).shape == (1, 1)
    for wrong in (Decoded("position", ("x",)), Decoded("state", NAMES)):
        with pytest.raises(UserError, match="fit a Readout"):
            wrong(oracle, state)


def test_each_model_of_several_has_its_own() -> None:
    torch.manual_seed(0)
    one, two, third = (JEPA(JEPA.Config(latent=6, hidden=8), SPEC).eval() for _ in range(3))
    clip = random_clip(SPEC, 8, 1)
    each = [Readout.fit(m.features(m.encode(clip.at(0))), clip.at(0)["speed"], NAMES) for m in (one, two)]
    both = MembersReadout((one, two), tuple(each))
    assert both.names == NAMES
    for model, readout in zip((one, two), each, strict=True):
        state = model.encode(clip.at(0))
        assert torch.equal(both(model, state), readout(model, state))
    with pytest.raises(UserError, match="none of the 2"):
        both(third, third.encode(clip.at(0)))
    with pytest.raises(UserError, match="give one for each"):
        MembersReadout((one, two), (each[0],))
    with pytest.raises(UserError, match="different quantities"):
        MembersReadout((one, two), (each[0], Decoded("speed", ("x",))))


def test_columns_have_names() -> None:
    readout = Readout.fit(*some(), NAMES)
    assert columns(readout, ["angle", "x"]) == [2, 0]
    with pytest.raises(UserError, match=r"no 'angel'\. Did you mean 'angle'"):
        columns(readout, ["angel"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:4], y[:4], NAMES, 0.2), "4 rows are too few"),
        (lambda x, y: (x[:9], y, NAMES, 0.2), "expected"),
        (lambda x, y: (x, y, ("x", "y"), 0.2), "one for each"),
        (lambda x, y: (x, y, NAMES, 1.0), "held_out"),
        (lambda x, y: (x * torch.nan, y, NAMES, 0.2), "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(change, said: str) -> None:
    features, values, names, held_out = change(*some(100))
    with pytest.raises(UserError, match=said):
        Readout.fit(features, values, names, held_out=held_out)
