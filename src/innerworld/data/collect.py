"""`collect`: let a policy act in many environments at once and store the episodes, reproducibly and without bias."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from innerworld.data.explore import Policy, Remembers
from innerworld.data.stepping import check_action, check_envs, check_obs, check_reward, reset, seeds_from, step, to_env
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
    choices_from = check_envs(envs, spec, "the store's spec")
    entropy = np.random.SeedSequence(seed)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(first,)) if first else entropy)
    seeds = seeds_from(seed)
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
            obs = reset(envs, started, [seeds + tape.number for tape in tapes], options, tapes)
            check_obs(obs, spec, tapes)
            for row in np.flatnonzero(started).tolist():
                tapes[row].look(obs, row)
            if memory is not None:
                memory.begin(started, rng)
        action = check_action(policy(dict(obs), rng), spec, envs.num_envs)
        obs, reward, terminated, truncated, lost = step(envs, to_env(action, spec, choices_from), tapes)
        again += [tapes[row].discard() for row in lost if tapes[row].recorded]
        for row, tape in enumerate(tapes):
            tape.act(action[row], reward[row], terminated[row])
        check_obs(obs, spec, tapes)
        for row, tape in enumerate(tapes):
            tape.look(obs, row)
        check_reward(reward, tapes)
        started = np.asarray(terminated | truncated, np.bool_)
        for over in _groups([tapes[row] for row in np.flatnonzero(started).tolist() if tapes[row].recorded]):
            yield [(tape.clip(), seeds + tape.number) for tape in over]
            ended += len(over)
        _check_longest(tapes, ~started, longest)


def _memory(policy: object) -> Remembers | None:
    return policy if isinstance(policy, Remembers) else None


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
