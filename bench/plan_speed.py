"""CEM planning time on a LeWorldModel-size predictor, innerworld beside stable-worldmodel: CPU and wall seconds.

Both sides: 1 environment, 300 candidates × 30 rounds, 30 elites, horizon 5, action 10 (2-d × frame skip 5), latent 192,
predictor of 6 layers, 16 heads × 64, MLP 2048, history 3; random weights, one thread, start and goal already encoded.

    python bench/plan_speed.py --peer-python PEER/bin/python

The peer runs in its own virtual environment (`torch==2.13.0`, then `stable-worldmodel==0.1.1`), the other side in this
one. Without `--peer-python` only our side runs. The sides take turns, `--repeats` times each; the least is reported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAMPLES, ROUNDS, ELITES, HORIZON = 300, 30, 30, 5
ACTION, LATENT, HISTORY = 10, 192, 3
DEPTH, HEADS, HEAD_DIM, MLP = 6, 16, 64, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of the peer's virtual environment")
    parser.add_argument("--repeats", type=int, default=2, help="plans timed on each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(_time(SIDES[args.side]())))
        return
    pythons = {"innerworld": Path(sys.executable)}
    if args.peer_python:
        pythons["stable-worldmodel"] = args.peer_python
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in pythons}
    for _ in range(args.repeats):
        for side, python in pythons.items():
            results[side].append(_in_own_process(python, side))
            print(f"{side:18} {_line(results[side][-1])}", flush=True)
    best = {side: min(runs, key=lambda run: run["cpu_s"]) for side, runs in results.items()}
    print(f"\nleast of {args.repeats}")
    for side, run in best.items():
        print(f"{side:18} {_line(run)}")
    if args.peer_python:
        print(
            f"ratio              {best['stable-worldmodel']['cpu_s'] / best['innerworld']['cpu_s']:.2f} × CPU seconds"
        )


def innerworld_side() -> tuple[Callable[[], object], str]:
    """CEM over `JEPA.imagine`, as `innerworld` plans; the plan's cost is the distance after the last step."""
    import torch
    from einops import repeat

    from innerworld.models import MODELS
    from innerworld.plan import CEM, cold, generators
    from innerworld.types import Spec
    from innerworld.world import at, flatten

    torch.set_num_threads(1)
    family = MODELS["jepa"]
    model = family(family.presets["lewm"], Spec(obs={"image": (224, 224, 3)}, action=ACTION))
    model = model.eval().requires_grad_(False)
    looks = torch.randint(256, (2, 1, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        state, goal = (model.encode({"image": look}) for look in looks)

    def cost(actions: torch.Tensor) -> torch.Tensor:
        b, n, h, _ = actions.shape
        imagined = model.imagine(state, actions)  # b n h ...
        last = at(flatten(imagined, 2), h - 1)  # (b n) ...
        aim = {name: repeat(goal[name], "b ... -> (b n) ...", n=n) for name in last}
        return model.energy(last, aim).unflatten(0, (b, n))

    planner = CEM.presets["lewm"]
    start = cold(1, HORIZON, ACTION)
    size = sum(p.numel() for name, p in model.named_parameters() if name.startswith("predictor."))
    return (lambda: planner(cost, start, generators(0, 1))), f"torch {torch.__version__}, {size / 1e6:.1f}M parameters"


def peer_side() -> tuple[Callable[[], object], str]:
    """stable-worldmodel's `CEMSolver` over its own LeWM; a stub encoder stands for the start and goal."""
    import contextlib
    import io
    import warnings
    from importlib.metadata import version
    from types import SimpleNamespace

    warnings.filterwarnings("ignore")
    import gymnasium
    import numpy as np
    import torch
    from stable_worldmodel.policy import PlanConfig
    from stable_worldmodel.solver import CEMSolver
    from stable_worldmodel.wm.lewm import LeWM
    from stable_worldmodel.wm.lewm.module import MLP as Projector
    from stable_worldmodel.wm.lewm.module import Embedder, Predictor

    torch.set_num_threads(1)

    class StubEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=x.flatten(1)[:, None, :LATENT] * self.scale)

    predictor = Predictor(
        num_frames=HISTORY,
        input_dim=LATENT,
        hidden_dim=LATENT,
        output_dim=LATENT,
        depth=DEPTH,
        heads=HEADS,
        mlp_dim=MLP,
        dim_head=HEAD_DIM,
        dropout=0.1,
    )
    model = LeWM(
        StubEncoder(),
        predictor,
        Embedder(input_dim=ACTION, emb_dim=LATENT),
        projector=Projector(LATENT, 2048, LATENT, norm_fn=torch.nn.BatchNorm1d),
        pred_proj=Projector(LATENT, 2048, LATENT, norm_fn=torch.nn.BatchNorm1d),
    )
    model = model.eval().requires_grad_(False)
    solver = CEMSolver(
        model=model, batch_size=1, num_samples=SAMPLES, n_steps=ROUNDS, topk=ELITES, device="cpu"
    )  # batch_size 1 is its default: environments planned at a time
    space = gymnasium.spaces.Box(-1, 1, shape=(1, 2), dtype=np.float32)
    config = PlanConfig(horizon=HORIZON, receding_horizon=HORIZON, action_block=ACTION // 2)
    solver.configure(action_space=space, n_envs=1, config=config)
    info = {
        "pixels": torch.randn(1, 1, 3, 8, 8),
        "goal": torch.randn(1, 1, 3, 8, 8),
        "action": torch.zeros(1, 1, 2),
    }

    def plan() -> object:
        with contextlib.redirect_stdout(io.StringIO()):  # its solver prints
            return solver.solve({name: value.clone() for name, value in info.items()})

    parts = (model.predictor, model.action_encoder, model.pred_proj)
    size = sum(p.numel() for part in parts for p in part.parameters())
    name = f"torch {torch.__version__}, stable-worldmodel {version('stable-worldmodel')}, {size / 1e6:.1f}M parameters"
    return plan, name


SIDES = {"innerworld": innerworld_side, "stable-worldmodel": peer_side}


def _in_own_process(python: Path, side: str) -> dict[str, Any]:
    done = subprocess.run([str(python), str(Path(__file__).resolve()), "--side", side], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _time(side: tuple[Callable[[], object], str]) -> dict[str, Any]:
    plan, setting = side
    wall, cpu = time.perf_counter(), time.process_time()
    plan()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "setting": setting}


def _line(run: dict[str, Any]) -> str:
    return f"{run['cpu_s']:7.2f} s CPU {run['wall_s']:7.2f} s wall   ({run['setting']})"


if __name__ == "__main__":
    main()
