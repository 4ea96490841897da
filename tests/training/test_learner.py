"""One step: micro-batches that add up, steps that are not taken, memory that runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerworld import checkpoint
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.training import TrainConfig, train
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

SPEC = Spec({"state": (3,)}, action=2)
CONFIG = TrainConfig(steps=20, lr=1e-2, save_every=10, log_every=1, device="cpu")
SHORT = "DefaultCPUAllocator: can't allocate memory"


class Linear(WorldModel):
    """A loss that is a mean over clips, noise if wanted, and a batch norm that counts what it saw."""

    def __init__(self, noise: float = 0.0) -> None:
        torch.manual_seed(1)
        super().__init__(Config(), SPEC)
        self.look = nn.Linear(3, 4)
        self.act = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.noise = noise
        self.sizes: list[int] = []
        self.limit = 99

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": self.look(obs["state"])}

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return {"z": self.act(torch.cat([state["z"], action], dim=-1))}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        self.sizes.append(len(clip.action))
        z = self.look(clip.at(0)["state"])
        z = z + self.noise * torch.randn_like(z)
        if len(clip.action) > 1:
            self.norm(z.detach())
        if len(clip.action) > self.limit:
            raise RuntimeError(SHORT)
        miss = (self.predict({"z": z}, clip.action[:, 0])["z"] - clip.at(1)["state"].sum(-1, keepdim=True)).square()
        return miss.mean(), {"miss": miss.mean().detach()}


@dataclass
class Noise:
    upset: dict[int, Callable[[Clip], Clip]]

    def batch(self, step: int) -> Clip:
        rng = torch.Generator().manual_seed(step)
        state, action = torch.randn(8, 2, 3, generator=rng), torch.rand(8, 1, 2, generator=rng)
        clip = Clip({"state": state}, action, torch.zeros(8, 1), torch.zeros(8, 1).bool())
        return self.upset[step](clip) if step in self.upset else clip

    def origin(self, step: int) -> list[str]:
        return [f"episode {step}"]


def nan(clip: Clip) -> Clip:
    return replace(clip, obs={"state": clip.obs["state"] * torch.nan})


def learn(model: Linear, folder: Path | None = None, upset: dict[int, Any] | None = None, **change: Any) -> list[dict]:
    rows: list[dict] = []
    resume = bool(folder) and checkpoint.exists(folder)
    config = CONFIG.model_copy(update=change)
    train(
        model, Noise(upset or {}), config, folder, lambda step, row: rows.append({"step": step, **row}), resume=resume
    )
    return rows


def assert_close(a: nn.Module, b: nn.Module) -> None:
    torch.testing.assert_close(dict(a.named_parameters()), dict(b.named_parameters()), rtol=1e-5, atol=1e-6)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize(("size", "sizes"), [(2, [2] * 4), (3, [3, 3, 2]), (8, [8]), (100, [8])])
def test_micro_batches_add_up_to_the_batch(size: int, sizes: list[int]) -> None:
    whole, parts = Linear(), Linear()
    a, b = learn(whole), learn(parts, micro_batch=size)
    assert parts.sizes[: len(sizes)] == sizes
    assert_close(whole, parts)
    for name in ("loss", "miss", "grad_norm"):
        assert [row[name] for row in b] == pytest.approx([row[name] for row in a], rel=1e-5)


def test_a_step_that_is_not_finite_is_skipped_and_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    model, other = Linear(), Linear()
    rows = learn(model, upset={7: nan, 8: nan}, on_nonfinite="skip", max_skips=2)
    learn(other, upset={8: nan}, on_nonfinite="skip", steps=7)
    assert "step 7: of the batch, state is not finite (clips: episode 7): skipped, 1 in a row" in caplog.text
    assert "skipped, 2 in a row" in caplog.text
    assert [row["step"] for row in rows] == [*range(7), *range(9, 20)]
    assert all(value.isfinite().all() for value in model.state_dict().values())  # of the batch norm, too
    assert int(model.norm.num_batches_tracked or 0) == 18


def test_skipping_is_bounded_also_across_a_resume(tmp_path: Path) -> None:
    bad = dict.fromkeys(range(5, 20), nan)
    with pytest.raises(UserError, match=r"step 8: .*, the 4th in a row\. The weights are still those before"):
        learn(Linear(), upset=bad, on_nonfinite="skip", max_skips=3)
    learn(Linear(), tmp_path, bad, on_nonfinite="skip", max_skips=3, steps=7)
    with pytest.raises(UserError, match=r"step 8: .*, the 4th in a row"):
        learn(Linear(), tmp_path, bad, on_nonfinite="skip", max_skips=3)


def test_the_clips_of_a_bad_step_are_named() -> None:
    with pytest.raises(UserError, match=r"step 3: of the batch, state is not finite \(clips: episode 3\)"):
        learn(Linear(), upset={3: nan})


def test_memory_that_runs_out_halves_and_the_step_is_the_same(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    plain, short = Linear(noise=0.1), Linear(noise=0.1)
    short.limit = 2
    learn(plain, micro_batch=2)
    learn(short, tmp_path, on_memory="halve")
    assert short.sizes[:6] == [8, 4, 2, 2, 2, 2]
    assert "step 0: out of memory with 8 clips at once: going on with 4" in caplog.text
    assert "step 0: out of memory with 4 clips at once: going on with 2" in caplog.text
    assert same(plain, short)  # the noise that was drawn in vain is drawn again, the batch norm has not counted it
    assert checkpoint.read_header(tmp_path).progress["micro"] == 2

    again = Linear(noise=0.1)
    learn(again, tmp_path, on_memory="halve", steps=21)
    assert again.sizes == [2] * 4  # not tried again after a resume


@pytest.mark.parametrize("error", [RuntimeError(SHORT), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_memory_that_runs_out_stops_with_advice(error: Exception, tmp_path: Path) -> None:
    model = Linear()
    plain = model.loss

    def loss(clip: Clip) -> Any:
        if len(model.sizes) >= 12:
            raise error
        return plain(clip)

    model.loss = loss  # type: ignore[method-assign]
    sentence = r"step 12: out of memory with 8 clips at once: .* train.micro_batch=4, or train.on_memory=halve"
    with pytest.raises(UserError, match=sentence):
        learn(model, tmp_path)
    assert checkpoint.read_header(tmp_path).step == 10
    learn(Linear(), tmp_path, micro_batch=4)


def test_memory_that_does_not_suffice_for_one_clip() -> None:
    model = Linear()
    model.limit = 0
    with pytest.raises(UserError, match=r"with 1 clips at once: .* shorter clips"):
        learn(model, on_memory="halve")


def test_other_errors_are_not_taken_for_memory() -> None:
    model = Linear()
    model.loss = lambda clip: (_ for _ in ()).throw(RuntimeError("a bug"))  # type: ignore
    with pytest.raises(RuntimeError, match="a bug"):
        learn(model, on_memory="halve")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_compiled_it_learns_the_same() -> None:
    plain, compiled = Linear(), Linear()
    compiled.sizes = plain.sizes = []
    a, b = learn(plain, steps=5), learn(compiled, steps=5, compile=True)
    assert [row["loss"] for row in b] == pytest.approx([row["loss"] for row in a], rel=1e-4)
