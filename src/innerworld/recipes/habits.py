"""How the papers' agents practised: what a preset of a family that acts begins with, beside the model."""

from __future__ import annotations

from innerworld.recipes.practice import Online
from innerworld.training import TrainConfig

EVERY = 250
"""Updates between two evaluations and between two checkpoints: the same, so that the best one is one that was tried."""

PLAIN = TrainConfig(best="eval_return", best_is_highest=True, save_every=EVERY)

V3 = PLAIN.model_copy(
    update={"optimiser": "laprop", "lr": 4e-5, "agc": 0.3, "clip_grad": 0.0, "warmup": 1000, "log_every": 10}
)
V2 = PLAIN.model_copy(update={"lr": 2e-4, "eps": 1e-5, "weight_decay": 1e-6, "clip_grad": 100.0, "log_every": 10})
V1 = PLAIN.model_copy(update={"lr": 6e-4, "clip_grad": 100.0, "log_every": 10})

CONTROL = V3.model_copy(update={"steps": 4000, "lr": 1e-3, "warmup": 200, "final_lr_fraction": 0.03})
SOON = (Online(envs=8, length=32, ratio=64, eval_every=EVERY), CONTROL)
STORM = PLAIN.model_copy(update={"lr": 1e-4, "weight_decay": 0.0, "clip_grad": 1000.0, "log_every": 10})

HABITS: dict[str, dict[str, tuple[Online, TrainConfig]]] = {
    "dreamer": {
        # DreamerV3, `configs.yaml`: B16 x T64, LaProp. Its replay ratios are 32 (Atari) to 1024 (control from vectors).
        "v3": (Online(eval_every=EVERY), V3),
        # DreamerV2, `configs.yaml`: B50 x T50; `dmc` an update every 5 agent steps of two environment steps, `atari`
        # every 16 (after 50,000 agent steps of filling, which no small world needs).
        "v2-dmc": (
            Online(batch=50, length=50, ratio=500, prefill=2500, action_repeat=2, eval_every=EVERY),
            V2.model_copy(update={"lr": 3e-4}),
        ),
        "v2": (Online(batch=50, length=50, ratio=156.25, prefill=5000, eval_every=EVERY), V2),
        # Dreamer: B50 x T50, 100 updates every 1000 environment steps, each action twice.
        "v1": (Online(batch=50, length=50, ratio=500, prefill=2500, action_repeat=2, eval_every=EVERY), V1),
        # Ours: worlds of a few numbers, CartPole in a quarter of an hour of CPU time.
        "control": SOON,
        # Ours: small sequence models of any substrate.
        "small": SOON,
        # DIAMOND, config/trainer.yaml: B32 x T19, four updates at every step; here of all its parts at once.
        "diamond": (
            Online(batch=32, length=19, ratio=2432, prefill=5000, eval_every=EVERY),
            PLAIN.model_copy(update={"lr": 1e-4, "weight_decay": 1e-2, "warmup": 100, "log_every": 10}),
        ),
        # TransDreamer, `configs_atari.py`: B50 x T50, an update every 16 steps.
        "transdreamer": (Online(batch=50, length=50, ratio=156.25, prefill=5000, eval_every=EVERY), V2),
        # STORM, STORM.yaml: B16 x T64, DRAMA, train.yaml: B16 x T128; both an update at every step.
        "storm": (Online(ratio=1024, prefill=1024, eval_every=EVERY), STORM),
        "drama": (
            Online(length=128, ratio=2048, prefill=1032, sampling="frequency", eval_every=EVERY),
            V3.model_copy(update={"agc": 0.0, "clip_grad": 1000.0}),
        ),
    }
}
"""By family and by the beginning of the preset's name; the first is for a preset of another name, or none."""


def habits(family: str, preset: str | None) -> tuple[Online, TrainConfig]:
    """Where and how a family's preset learns in a world, unless told otherwise."""
    known = HABITS.get(family, {})
    for name, its in known.items():
        if preset is not None and (preset == name or preset.startswith(f"{name}-")):
            return its
    return next(iter(known.values()), (Online(eval_every=EVERY), PLAIN))
