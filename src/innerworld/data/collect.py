"""`collect`: let a policy act in many environments at once and store the episodes, reproducibly and without bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from innerworld.data.explore import Policy, Remembers
from innerworld.data.store.store import COMPACT_BYTES, Store
from innerworld.data.store.writer import Writer
from innerworld.data.tape import Tape
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

Progress = Callable[[int, int], None]
"""(episodes done, episodes in all), called whenever some have ended."""

LONGEST = 100_000


def collect(
    envs: VectorEnv,
    policy: Policy,
    episodes: int,
    store: Store,
    seed: int = 0,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
    longest: int = LONGEST,
    first: int = 0,
) -> range:
    """Add `episodes` episodes to `store` and return their indices; (seed, environments, `first`) determines them.

    See `play` for which ones, for `options` and for `first`. Raises `UserError` if the environments do not fit the
    store's spec, fail, give numbers that are not finite or an episode beyond `longest` steps, if the disk is full, and
    for Ctrl-C; every episode that had ended is then stored.
    """
    before = len(store)
    try:
        with Writer(store) as writer:
            for over in play(envs, policy, store.spec, episodes, seed, options, longest, first):
                clips, seeds = zip(*over, strict=True)
                writer.add_all(clips, seeds)
                if progress is not None:
                    progress(len(store) - before, episodes)
    except KeyboardInterrupt:
        raise UserError(f"interrupted: {len(store)} episodes are safe in {store.path}") from None
    return range(before, len(store))


def play(
    envs: VectorEnv,
    policy: Policy,
    spec: Spec,
    episodes: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    longest: int = LONGEST,
    first: int = 0,
) -> Iterator[list[tuple[Clip, int]]]:
    """Yield the first `episodes` episodes to *start*, each (b = 1) with the seed it was reset with, as they end: those
    that end in the same step together, as long as they are not too large for one shard.

    The first to finish would favour the short ones. `envs` must have `AutoresetMode.DISABLED`; `options` goes to every
    reset. An environment without a part in the rest plays on, unrecorded, for a vector is stepped as a whole.
    `first` is the number of the first episode: parts of one collection have the same `seed` and share no episode.
    An episode that the environments lose (`info["lost"]`, see `envs.workers`) is discarded and begun again.
    """
    choices_from = _check_envs(envs, spec)
    entropy = np.random.SeedSequence(seed)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(first,)) if first else entropy)
    # Below 2^31, because some environments hand their seed on to generators that take no more than 32 bits.
    seeds = int(entropy.generate_state(1)[0]) >> 1
    memory = _memory(policy)
    tapes = [Tape(spec) for _ in range(envs.num_envs)]
    started = np.ones(envs.num_envs, np.bool_)
    obs: Mapping[str, np.ndarray] = {}
    begun = ended = 0
    again: list[int] = []  # numbers of episodes that were lost
    while ended < episodes:
        if started.any():
            for row in np.flatnonzero(started).tolist():
                if again:
                    tapes[row].begin(again.pop(0), recorded=True)
                    continue
                tapes[row].begin(first + begun, recorded=begun < episodes)
                begun += 1
            obs = _reset(envs, started, [seeds + tape.number for tape in tapes], options, tapes)
            _check_obs(obs, spec, tapes)
            for row in np.flatnonzero(started).tolist():
                tapes[row].look(obs, row)
            if memory is not None:
                memory.begin(started, rng)
        action = _check_action(policy(dict(obs), rng), spec, envs.num_envs)
        obs, reward, terminated, truncated, lost = _step(envs, _to_env(action, spec, choices_from), tapes)
        again += [tapes[row].discard() for row in lost if tapes[row].recorded]
        for row, tape in enumerate(tapes):
            tape.act(action[row], reward[row], terminated[row])
        _check_obs(obs, spec, tapes)
        for row, tape in enumerate(tapes):
            tape.look(obs, row)
        _check_reward(reward, tapes)
        started = np.asarray(terminated | truncated, np.bool_)
        for over in _groups([tapes[row] for row in np.flatnonzero(started).tolist() if tapes[row].recorded]):
            yield [(tape.clip(), seeds + tape.number) for tape in over]
            ended += len(over)
        _check_longest(tapes, ~started, longest)


def _memory(policy: object) -> Remembers | None:
    return policy if isinstance(policy, Remembers) else None


def _check_envs(envs: VectorEnv, spec: Spec) -> int:
    """Raise `UserError` unless `envs` shows and takes what `spec` says; return the number of the first choice."""
    if envs.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise UserError("collect resets by itself: make the vector environment with AutoresetMode.DISABLED")
    seen, acted = envs.single_observation_space, envs.single_action_space
    if not isinstance(seen, spaces.Dict):
        raise UserError(
            f"collect needs a Dict of sensors, got {type(seen).__name__}: wrap it with innerworld.envs.make"
        )
    shapes = {name: space.shape for name, space in seen.spaces.items()}
    if shapes != spec.obs:
        raise UserError(f"the environments show {shapes}, the store's spec says {spec.obs}")
    if isinstance(acted, spaces.Discrete):
        given: tuple[int, bool] = int(acted.n), True
    elif isinstance(acted, spaces.Box) and len(acted.shape) == 1:
        given = acted.shape[0], False
    else:
        raise UserError(f"collect needs a flat Box or Discrete action, got {acted}: wrap it with innerworld.envs.make")
    if given != (spec.action, spec.discrete):
        raise UserError(f"the environments take {acted}, the spec says {spec.action} (discrete: {spec.discrete})")
    return int(acted.start) if isinstance(acted, spaces.Discrete) else 0


def _reset(
    envs: VectorEnv,
    started: np.ndarray,
    seeds: Sequence[int],
    options: Mapping[str, Any] | None,
    tapes: Sequence[Tape],
) -> Mapping[str, np.ndarray]:
    # A new dict each time, because Gymnasium takes the mask out of it.
    asked = {**(options or {}), "reset_mask": started.copy()}
    # Typed as one number in Gymnasium's base class; all vectors take one for each environment.
    chosen: Any = [seed if new else None for seed, new in zip(seeds, started, strict=True)]
    try:
        obs, _ = envs.reset(seed=chosen, options=asked)
    except Exception as error:
        raise _failed(error, "reset", tapes) from error
    return obs


def _step(
    envs: VectorEnv, action: np.ndarray, tapes: Sequence[Tape]
) -> tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """What Gymnasium's step gives, with the rows that were lost in the place of the info."""
    try:
        obs, reward, terminated, truncated, info = envs.step(action)
    except Exception as error:
        raise _failed(error, "step", tapes) from error
    return obs, reward, terminated, truncated, np.flatnonzero(info.get("lost", ())).tolist()


def _failed(error: Exception, verb: str, tapes: Sequence[Tape]) -> UserError:
    what = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    where = ", ".join(f"{tape.number} (step {tape.length})" for tape in tapes if tape.recorded)
    return UserError(f"the environment failed in {verb}, one of the episodes {where}: {kind}{what}")


def _check_action(action: np.ndarray, spec: Spec, n: int) -> np.ndarray:
    """What the policy chose as float32 `n a`. Raises `UserError` if it is not an action."""
    action = np.asarray(action, np.float32)
    if action.shape != (n, spec.action):
        raise UserError(f"the policy gave actions of shape {action.shape}, expected ({n}, {spec.action})")
    if spec.discrete:
        if not (np.all((action == 0) | (action == 1)) and np.all(action.sum(1) == 1)):
            raise UserError("the policy gave an action that is not one-hot")
    elif not np.all(np.abs(action) <= 1 + 1e-6):
        raise UserError("the policy gave an action that is outside [-1, 1] or not a number")
    return action


def _to_env(action: np.ndarray, spec: Spec, choices_from: int) -> np.ndarray:
    return action.argmax(1) + choices_from if spec.discrete else action


def _check_obs(obs: Mapping[str, np.ndarray], spec: Spec, tapes: Sequence[Tape]) -> None:
    if not isinstance(obs, Mapping) or obs.keys() != spec.obs.keys():
        raise UserError(f"the environment does not show the sensors {', '.join(spec.obs)} that its space promises")
    for sensor, shape in spec.obs.items():
        value = obs[sensor]
        if value.shape != (len(tapes), *shape):
            where = f"episode {tapes[0].number} step {tapes[0].length}"
            raise UserError(f"{where}: sensor {sensor!r} has shape {value.shape[1:]}, its space promises {shape}")
        if len(shape) == 3 and value.dtype != np.uint8:
            raise UserError(f"sensor {sensor!r} is an image, which is uint8; the environment gave {value.dtype}")
        if len(shape) == 1:
            _check_finite(np.asarray(np.isfinite(value).all(1)), f"sensor {sensor!r}", tapes)


def _check_reward(reward: np.ndarray, tapes: Sequence[Tape]) -> None:
    _check_finite(np.asarray(np.isfinite(reward)), "the reward", tapes)


def _check_finite(finite: np.ndarray, what: str, tapes: Sequence[Tape]) -> None:
    for row in np.flatnonzero(~finite).tolist():
        if tapes[row].recorded:
            raise UserError(f"episode {tapes[row].number} step {tapes[row].length}: {what} is not finite")


def _groups(tapes: Sequence[Tape]) -> list[list[Tape]]:
    """In the same order, each of about as many bytes as a shard has, for their copies are in memory together."""
    groups: list[list[Tape]] = []
    size = 0
    for tape in tapes:
        if not groups or size + tape.bytes > COMPACT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(tape)
        size += tape.bytes
    return groups


def _check_longest(tapes: Sequence[Tape], running: np.ndarray, longest: int) -> None:
    for tape, runs in zip(tapes, running, strict=True):
        if runs and tape.recorded and tape.length >= longest:
            raise UserError(f"episode {tape.number} does not end within {longest} steps: give the world max_steps")
