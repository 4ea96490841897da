"""The peer of the Two Rooms benches: facebookresearch/eb_jepa (Apache-2.0), run from a checkout, nothing of it copied.

git clone https://github.com/facebookresearch/eb_jepa
pip install scipy pandas omegaconf tqdm imageio seaborn scikit-learn opencv-python
python bench/peer_eb_jepa.py --peer eb_jepa        # what one episode of its planning costs
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PLANNING = "examples/ac_video_jepa/cfgs/planning_{planner}.yaml"
EPISODE_STEPS = 200  # n_allowed_steps of its eval.yaml; it plans anew at every one


@dataclass(frozen=True)
class Planning:
    """CPU-seconds of one round of its planner: `fixed + per_step * horizon`, and what an episode of it comes to."""

    fixed_s: float  # encoding: it encodes the observation once per sample and round
    per_step_s: float
    horizon: int
    rounds: int

    @property
    def round_s(self) -> float:
        return self.fixed_s + self.per_step_s * self.horizon

    @property
    def episode_s(self) -> float:
        """It plans at each step, no farther than the steps that are left."""
        horizons = [min(self.horizon, left) for left in range(EPISODE_STEPS, 0, -1)]
        return self.rounds * sum(self.fixed_s + self.per_step_s * h for h in horizons)


def generator(checkout: Path, batch: int = 64) -> Callable[[], int]:
    """Its data loader at the settings of its repository: each call makes a batch and returns the transitions in it."""
    _open(checkout)
    from eb_jepa.datasets.utils import init_data  # pyright: ignore[reportMissingImports]

    loader, _, _ = init_data("two_rooms", {"batch_size": batch})
    batches = iter(loader)

    def make() -> int:
        frames = next(batches)[0]  # b c t+1 y x
        return frames.shape[0] * (frames.shape[2] - 1)

    return make


def planning(checkout: Path, planner: str = "cem", repeats: int = 3) -> Planning:
    """Time rounds of its planner ("cem" or "mppi"), at its settings, with its model (random weights)."""
    agent, obs, settings = _agent(checkout, planner)
    horizon, rounds = int(settings.planner.plan_length), int(settings.planner.n_iters)
    agent.planner.n_iters = 1
    long = min(_cpu_s(lambda: agent.act(obs, steps_left=horizon)) for _ in range(repeats))
    short = min(_cpu_s(lambda: agent.act(obs, steps_left=1)) for _ in range(repeats))
    per_step = (long - short) / (horizon - 1)
    return Planning(short - per_step, per_step, horizon, rounds)


def _agent(checkout: Path, planner: str) -> tuple[Any, torch.Tensor, Any]:
    """Its agent with a goal set, an observation `1 c 1 y x`, and the planner's settings."""
    _open(checkout)
    from eb_jepa.architectures import ImpalaEncoder, RNNPredictor  # pyright: ignore[reportMissingImports]
    from eb_jepa.datasets.two_rooms.env import DotWall  # pyright: ignore[reportMissingImports]
    from eb_jepa.datasets.utils import init_data  # pyright: ignore[reportMissingImports]
    from eb_jepa.jepa import JEPA  # pyright: ignore[reportMissingImports]
    from eb_jepa.planning import GCAgent  # pyright: ignore[reportMissingImports]
    from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]

    settings = OmegaConf.load(checkout / PLANNING.format(planner=planner))
    model_settings = OmegaConf.load(checkout / "examples/ac_video_jepa/cfgs/train.yaml").model
    _, _, data = init_data("two_rooms", {})
    world = DotWall(config=data, n_allowed_steps=EPISODE_STEPS, level="normal")
    obs, info = world.reset()
    channels, size = int(model_settings.dobs), data.img_size
    encoder = ImpalaEncoder(
        width=1,
        stack_sizes=(16, model_settings.henc, model_settings.dstc),
        num_blocks=2,
        dropout_rate=None,
        layer_norm=False,
        input_channels=channels,
        final_ln=True,
        mlp_output_dim=512,
        input_shape=(channels, size, size),
    )
    predictor = RNNPredictor(hidden_size=encoder.mlp_output_dim, final_ln=encoder.final_ln)
    model = JEPA(encoder, torch.nn.Identity(), predictor, None, None).eval()
    agent = GCAgent(model, action_dim=2, plan_cfg=settings, normalizer=world.normalizer, env=world)
    agent.set_goal(obs.float(), info["dot_position"])
    return agent, world.normalizer.normalize_state(obs.float())[None, :, None], settings


def _open(checkout: Path) -> None:
    if not (checkout / "eb_jepa").is_dir():
        raise SystemExit(f"{checkout} is not a checkout of facebookresearch/eb_jepa")
    logging.disable(logging.INFO)
    sys.modules.setdefault("wandb", ModuleType("wandb"))  # imported by its scripts, not needed here
    sys.path.insert(0, str(checkout))


def _cpu_s(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="checkout of facebookresearch/eb_jepa")
    parser.add_argument("--planner", choices=("cem", "mppi"), default="cem")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cost = planning(options.peer, options.planner)
    print(f"eb_jepa {options.planner}: one round of horizon {cost.horizon}: {cost.round_s:.3f} CPU-s")
    print(f"  of which encoding {cost.fixed_s:.3f} CPU-s; each further step {cost.per_step_s * 1000:.2f} CPU-ms")
    print(f"an episode ({cost.rounds} rounds at each of {EPISODE_STEPS} steps): {cost.episode_s:.0f} CPU-s")


if __name__ == "__main__":
    main()
