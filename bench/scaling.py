"""Check the cost model of `innerworld cost` against this machine: arithmetic, memory, and the bytes between processes.

OMP_NUM_THREADS=1 python bench/scaling.py            (Linux; the network is counted on the loopback interface)
OMP_NUM_THREADS=1 unshare -rn python bench/scaling.py    without what other programs send there meanwhile
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from innerworld import models
from innerworld.models import JEPA
from innerworld.recipes.cost import cost, noise
from innerworld.types import Spec

SPEC = Spec({"pixels": (64, 64, 3)}, action=2)
VIT = {
    "encoder": "vit",
    "patch": 8,
    "latent": 192,
    "predictor": "transformer",
    "depth": 4,
    "hidden": 1024,
    "history": 3,
}
MODELS: dict[str, tuple[str, dict[str, Any], int, int]] = {  # family, settings, batch, length
    "jepa small": ("jepa", JEPA.presets["small"].model_dump(), 64, 12),
    "jepa vit": ("jepa", VIT, 8, 4),
    "rssm small": ("rssm", models.config("rssm", "small").model_dump(), 16, 16),
}
STEPS = 5
HERE = Path(__file__)


def main() -> None:
    peak = matmul_flops()
    print(f"one thread; peak of a 1024 x 1024 product of float32 matrices: {peak / 1e9:.1f} GFLOP/s\n")
    print(f"{'model':<12}{'what':<28}{'formula':>12}{'measured':>12}{'off by':>9}")
    for name in MODELS:
        counted = cost(*MODELS[name][:2], SPEC, *MODELS[name][2:])
        report(name, "GFLOP of a step", counted.flops_layers / 1e9, counted.flops / 1e9)
        told = run_alone(name)
        predicted = counted.bytes_state() + counted.bytes_working + counted.bytes_read
        report(name, "MB at the peak of a step", predicted / 1e6, told["bytes"] / 1e6)
        for strategy in ("ddp", "fsdp"):
            sent = 2 * counted.bytes_sent(2, strategy, gloo=True)
            report(name, f"MB between 2, {strategy}", sent / 1e6, run_pair(name, strategy) / 1e6)
        rate = counted.flops / told["seconds"]
        print(
            f"{name:<12}a step: {told['seconds'] * 1e3:.0f} ms, {rate / 1e9:.1f} GFLOP/s, {rate / peak:.0%} of peak\n"
        )


def report(name: str, what: str, formula: float, measured: float) -> None:
    print(f"{name:<12}{what:<28}{formula:>12.3f}{measured:>12.3f}{formula / measured - 1:>+9.1%}")


def matmul_flops(n: int = 1024) -> float:
    torch.set_num_threads(1)
    a = torch.randn(n, n)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / min(seconds)


def run_alone(name: str) -> dict[str, float]:
    """In a process of its own, for its memory to be its own."""
    done = subprocess.run([sys.executable, HERE, "alone", name], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run_pair(name: str, strategy: str) -> float:
    """Bytes that cross the loopback interface in a step of two processes."""
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    pair = [
        subprocess.Popen(
            [sys.executable, HERE, "pair", name, strategy],
            env={**os.environ, **told, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    texts = [process.communicate()[0] for process in pair]
    if any(process.returncode for process in pair):
        raise SystemExit(f"{name}, {strategy}: one of the two processes failed, see above")
    return float(texts[0])


# ---------------------------------------------------------------------- in the processes that are measured


def alone(name: str) -> None:
    torch.set_num_threads(1)
    model, clip = models.build("jepa", {"channels": 2, "latent": 4, "hidden": 8}, SPEC), noise(SPEC, 2, 4)
    optimiser = torch.optim.AdamW(model.parameters())
    model.loss(clip)[0].backward()  # what torch loads at its first step belongs to no model
    optimiser.step()
    before = _memory("VmRSS")
    family, settings, b, t = MODELS[name]
    model, clip = models.build(family, settings, SPEC), noise(SPEC, b, t)
    optimiser = torch.optim.AdamW(model.parameters())
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": min(seconds), "bytes": _memory("VmHWM") - before}))


def pair(name: str, strategy: str) -> None:
    from innerworld.team import Team
    from innerworld.training.parallel import LossOf, with_ddp, with_fsdp

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    family, settings, b, t = MODELS[name]
    torch.manual_seed(0)
    model, clip = models.build(family, settings, SPEC), noise(SPEC, b, t, dist.get_rank())
    plain, device = LossOf(model, model.loss), torch.device("cpu")
    both = with_ddp(plain, clip, device) if strategy == "ddp" else with_fsdp(plain, Team(dist.get_rank(), 2), device)
    both(clip)[0].backward()  # the first step also agrees on how to go on
    dist.barrier()
    before = _crossed()
    for _ in range(STEPS):
        both(clip)[0].backward()
    dist.barrier()
    print((_crossed() - before) / STEPS)
    dist.destroy_process_group()


def _memory(name: str) -> int:
    """Of this process, in bytes: VmRSS now, VmHWM at most."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def _crossed() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[9])
    raise SystemExit("this machine has no loopback interface in /proc/net/dev")


if __name__ == "__main__":
    {"alone": alone, "pair": pair}[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:] else main()
