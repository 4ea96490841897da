"""`together`: one piece of work in several processes of a Ray cluster, which find each other as under torchrun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerworld.cluster.on_ray import Ray
from innerworld.errors import UserError


def together(
    work: Callable[[], object], processes: int, folder: Path, address: str | None = None, gpu: bool = False
) -> None:
    """Call `work` in each of the processes, which find one another by torch.distributed (`RANK`, `WORLD_SIZE`).

    `folder` holds what Ray Train notes, and must be one that all machines see. `address` and `gpu` as in `Ray`; each
    process has one CPU, or one GPU. Raises `UserError` when a process fails.
    """
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError as error:
        raise UserError(f"Ray Train is not installed ({error.name}): pip install 'ray[train]'") from None
    with Ray(address, processes):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"work": work},
            scaling_config=ScalingConfig(num_workers=processes, use_gpu=gpu),
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            run_config=RunConfig(storage_path=str(folder.resolve())),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise UserError(f"a process of {processes} failed: {' '.join(str(error).split())[:500]}") from error


def _work(given: dict[str, Any]) -> None:
    given["work"]()
