"""Judge what a model draws: every measure of generated pictures at once, for each family that decodes.

Protocols are with the measures: `pictures.py`, `controllability.py`, `frechet.py`, `turning.py`, `speed.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from innerworld.data import Clips, Store
from innerworld.envs import make
from innerworld.errors import UserError
from innerworld.evaluate.controllability import delta_psnr, others, read_back, shuffled_loss, shuffled_picture
from innerworld.evaluate.frames import Looked, imagined, look
from innerworld.evaluate.frechet import RandomConv, frechet
from innerworld.evaluate.inverse import InverseConfig, InverseModel, fit_inverse
from innerworld.evaluate.pictures import Drift, drift, likeness
from innerworld.evaluate.speed import flops_per_frame, frames_per_s
from innerworld.evaluate.turning import find_tape, returning
from innerworld.evaluate.untouched import untouched
from innerworld.types import Clip, each, random_actions
from innerworld.world import WorldModel

CONTEXT = 4  # steps that are looked at before the eyes are shut: five frames
HORIZON = 30  # steps that are imagined
STEPS = (1, 4, 10, 30)  # of which numbers are told
ACTED = 4  # the step of ΔPSNR
CLIPS = (64, 32, 16, 8)  # the first of these for which `FLOPS` and `BYTES` suffice
FLOPS = 2e12  # for imagining, half a minute of two cores; not counted in seconds, which would make clips depend on luck
BYTES = 1 << 27  # of one film of all clips
FILMS = 2  # clips that are shown
TURN = 4  # steps away, and as many back
TURNS = 16  # clips with which that is asked


@dataclass(frozen=True)
class Drawings:
    """What was found of one model's pictures."""

    metrics: dict[str, float]
    drift: Drift
    read: dict[str, list[float]]  # of what, and the accuracy or R² of the actions read back at each step
    films: list[list[tuple[str, np.ndarray]]]  # of each clip shown: names and frames t y x c
    protocol: dict[str, str]  # what was measured how
    untried: dict[str, str] = field(default_factory=dict)  # what was not measured, and why


@dataclass(frozen=True)
class Scene:
    """Held-out clips, what came of looking at them, and what was imagined from time `context` on."""

    clip: Clip
    sensor: str
    context: int
    seen: Looked
    true: Tensor  # b h+1 y x c   from time `context` on
    redrawn: Tensor  # b h+1 y x c   the codec's, likewise
    actions: dict[str, Tensor]  # b h a   the clip's "own", "random" ones and, for a few steps, "another's"
    frames: dict[str, Tensor]  # b h y x c   what was imagined with each

    def film(self, name: str) -> Tensor:
        """With what was drawn before the first step: `b h+1 y x c`."""
        return torch.cat([self.redrawn[:, :1], self.frames[name]], dim=1)


def judge_frames(
    model: WorldModel,
    store: Store,
    learn: np.ndarray,
    held_out: np.ndarray,
    sensor: str,
    length: int,
    frame_skip: int = 1,
    seed: int = 0,
    reader: InverseConfig = InverseConfig(),
) -> Drawings:
    """Imagine held-out episodes and judge the frames. `learn` teaches the inverse model; `length` is that of the clips
    that the model was taught with, of which the loss is asked.

    Raises `UserError` for a family that does not draw `sensor`, and for episodes too short to imagine one step.
    """
    begun = time.perf_counter()
    untried: dict[str, str] = {}
    with untouched(model) as device:
        context, horizon = _span(store, held_out, frame_skip)
        most = _fitting(CLIPS, (context + horizon) * math.prod(store.spec.obs[sensor]), BYTES)
        clip = Clips(store, held_out, context + horizon, most, seed + 2, frame_skip).batch(0).to(device)
        one = clip.rows(slice(0, 1))
        belief = look(model, one, sensor, context).belief
        speed, cost = (measure(model, belief, one.action, sensor, seed) for measure in (frames_per_s, flops_per_frame))
        few = min(most, _fitting(CLIPS, 2 * horizon * cost, FLOPS))
        scene = scene_of(model, clip.rows(slice(0, few)), sensor, context, seed)
        shown, true, last = scene.frames["own"], scene.true[:, 1:], scene.true[:, 0]
        drifted, steps = drift(shown, scene.redrawn[:, 1:], true, last), [step for step in STEPS if step <= horizon]
        metrics = drifted.metrics(steps, seed) | likeness(shown, true, last, steps, seed)
        net, read = None, {}
        if model.spec.action:
            metrics |= followed(model, scene, length, seed)
            net = fit_inverse(store, learn, sensor, model.spec.discrete, frame_skip, reader)
            told, read = read_actions(net, scene, seed)
            metrics |= told
        else:
            untried["whether actions are followed"] = "the store holds no actions"
        metrics |= _distances(scene, net)
        try:
            metrics |= turned(model, store, scene, frame_skip, seed)
        except UserError as error:
            untried["return_error"] = str(error)
    metrics["frames_per_s"] = speed
    protocol = {
        "frames": f"{len(scene.true)} held-out clips; {context + 1} frames are seen, then {horizon} steps imagined",
        "pictures": f"{sensor}, in 8 bits, chance drawn with the seed {seed}",
        "speed": f"one stream on {device.type}, torch threads: {torch.get_num_threads()}",
        "all of it took": f"{time.perf_counter() - begun:.0f} s",
    }
    films = [_film(scene, k) for k in range(min(FILMS, len(scene.true)))]
    return Drawings(metrics, drifted, read, films, protocol, untried)


def _span(store: Store, held_out: np.ndarray, frame_skip: int) -> tuple[int, int]:
    """How many steps to look at and to imagine: as many as half of the episodes have room for."""
    room = int(np.median(store.lengths[held_out])) // frame_skip
    if room < 1:
        raise UserError("half of the held-out episodes are shorter than a step, so nothing can be imagined of them")
    context = min(CONTEXT, room // 2)
    return context, min(HORIZON, room - context)


def _fitting(counts: Sequence[int], each_takes: float, room: float) -> int:
    """The first count that there is room for, or else the last."""
    return next((n for n in counts if n * each_takes <= room), counts[-1])


def scene_of(model: WorldModel, clip: Clip, sensor: str, context: int, seed: int) -> Scene:
    """Look at the clips until time `context`, then imagine the rest with their own actions and with wrong ones."""
    seen = look(model, clip, sensor, context)
    actions = {"own": clip.action[:, context:]}
    if model.spec.action:
        b, horizon, _ = actions["own"].shape
        actions["random"] = random_actions(model.spec, (b, horizon), Generator().manual_seed(seed + 3)).to(clip.action)
        actions["another's"] = actions["own"][others(b, seed)][:, :ACTED]
    frames = {name: imagined(model, seen.belief, given, sensor, seed) for name, given in actions.items()}
    true = clip.obs[sensor][:, context:].cpu()
    actions = {name: given.cpu() for name, given in actions.items()}
    return Scene(clip, sensor, context, seen, true, seen.redrawn[:, context:], actions, frames)


def followed(model: WorldModel, scene: Scene, length: int, seed: int) -> dict[str, float]:
    """How much wrong actions cost: ΔPSNR, in the picture and in the loss of clips of `length` actions."""
    true, step = scene.true[:, 1:], min(ACTED, scene.true.shape[1] - 1)
    return (
        delta_psnr(scene.frames["own"], scene.frames["random"], true, step, seed)
        | shuffled_picture(scene.frames["own"], scene.frames["another's"], true, step, seed)
        | shuffled_loss(model, scene.clip.cut(0, min(length, scene.clip.length)), seed)
    )


def read_actions(net: InverseModel, scene: Scene, seed: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Actions read off imagined frames, beside those read off true ones and off what the codec makes of true ones."""
    own = scene.actions["own"]
    found = {
        "readback": read_back(net, scene.film("own"), own),
        "readback_random": read_back(net, scene.film("random"), scene.actions["random"]),
        "readback_codec": read_back(net, scene.redrawn, own),
        "readback_real": read_back(net, scene.true, own),
    }
    metrics: dict[str, float] = {}
    for name, one in found.items():
        metrics |= one.metrics(name, seed)
    if net.discrete:
        metrics["readback_chance"] = own.mean((0, 1)).max().item()
    return metrics, {name: one.along() for name, one in found.items()}


def _distances(scene: Scene, net: InverseModel | None) -> dict[str, float]:
    """On features of each net, beside the codec's frames and the last frame repeated; `b h d` flattened to moments."""
    films = {"": scene.film("own"), "_codec": scene.redrawn, "_still": scene.true[:, :1].expand_as(scene.true)}
    conv = RandomConv(scene.true.shape[-1])
    nets = {"random_conv": lambda film: conv(film[:, 1:].flatten(0, 1))}
    if net is not None:
        nets["inverse"] = lambda film: net.read(film)[1].flatten(0, 1)
    found: dict[str, float] = {}
    for name, features in nets.items():
        real = features(scene.true)
        found |= {f"frechet_{name}{whose}": frechet(real, features(film)) for whose, film in films.items()}
    return found


def turned(model: WorldModel, store: Store, scene: Scene, frame_skip: int, seed: int) -> dict[str, float]:
    """What is imagined of going away and coming back, see `returning`.

    Raises `UserError` where the true world cannot tell what comes back.
    """
    env, n = store.meta.about.env, min(TURNS, len(scene.true))
    if not env or "state" not in scene.clip.obs or not model.spec.action:
        raise UserError("the store names no world that could be begun at its states, or holds no `state` or no actions")
    start = scene.true[:n, 0]
    with closing(make(env, n, start.shape[1])) as worlds:
        state = scene.clip.obs["state"][:n, scene.context].cpu()
        tape = find_tape(worlds, state, start, store.spec, scene.sensor, TURN, frame_skip, seed)
    belief = each(lambda value: value[:n], scene.seen.belief)
    film = imagined(model, belief, tape.actions.to(scene.clip.action), scene.sensor, seed)
    found = returning(tape, film[:, TURN - 1], film[:, -1], scene.redrawn[:n, 0], start, seed)
    if not found:
        raise UserError("in the true world nothing that the actions change comes back by undoing them")
    return found


def _film(scene: Scene, k: int) -> list[tuple[str, np.ndarray]]:
    panels = [("real", scene.true[k]), ("imagined, the same actions", scene.film("own")[k])]
    if "random" in scene.frames:
        panels.append(("imagined, random actions", scene.film("random")[k]))
    return [(name, frames[..., :3].numpy()) for name, frames in panels]
