"""A Ray cluster of two machines on this one, and what must work on it; prints what came out as JSON. See test_ray.py.

A program of its own: Ray's settings hold for a whole process, and its warnings are none of ours.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import chores
import numpy as np
import torch
from ray.cluster_utils import Cluster

from innerworld import models
from innerworld.cluster import Local, Place, Ray
from innerworld.data import About, Store
from innerworld.envs import spec_of
from innerworld.evaluate.control import Played, joined
from innerworld.recipes.goals import draw_goals, worlds_of
from innerworld.recipes.parts import Collection, collect_parts
from innerworld.recipes.players import Match, play_share, play_shared
from innerworld.recipes.two_rooms import Control

COLLECTION = Collection(env="two_rooms", episodes=22, worlds=4, seed=5, size=32, max_steps=6)
SMALL = {"object_store_memory": 80 * 2**20, "num_cpus": 1}


def main(folder: Path) -> dict[str, Any]:
    cluster = Cluster()
    cluster.add_node(include_dashboard=False, **SMALL)
    second = cluster.add_node(**SMALL)
    with Ray(cluster.address) as place:
        found = {
            "machines": len(set(place.map(chores.machine, [1.0] * 4))),
            "order": place.map(chores.first_is_last, range(4)),
            "picture": float(place.map(chores.picture, [3])[0].mean()),
            "died": place.map(chores.die_once, [str(folder / "x")]) == [str(folder / "x")],
            "failures": [_failure(place, job) for job in (2, 3)],
        }
        found["store"] = _collected(folder / "ray", place)
        match = _match(folder / "ray")
        found["played"] = _paths(play_shared(match, place))

        begun = folder / "begun"

        def lose(done: int, total: int) -> None:
            if done == 1:
                chores.until_begun(str(begun))
                cluster.remove_node(second, allow_graceful=False)

        done_by = place.map(chores.held, [(str(begun), second.node_id)] * 4, lose)
        found["done_again_elsewhere"] = [machine != second.node_id for machine in done_by]
    cluster.shutdown()
    with Local(2) as place:
        found["store_local"] = _collected(folder / "local", place)
    parts = [play_share(match, share) for share in match.shares()]
    found["played_here"] = _paths({"here": joined(parts)})
    return found


def _failure(place: Ray, job: int) -> str:
    try:
        return str(place.map(chores.mistake, [job]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _collected(path: Path, place: Place) -> list[str]:
    """Collect there; the fingerprints of the store's files."""
    with closing(COLLECTION.make()) as worlds:
        spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    collect_parts(COLLECTION, Store.create(path, spec, About(env=COLLECTION.env)), place)
    return [sha256(file.read_bytes()).hexdigest() for file in sorted((path / "shards").iterdir())]


def _match(path: Path) -> Match:
    """A family with random weights tries goals; more goals than one share has."""
    store = Store.open(path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = models.build("jepa", {"channels": 2, "latent": 8, "hidden": 8}, store.spec.only("pixels"))
    planner = {"horizon": 4, "samples": 16, "rounds": 2, "elites": 4}
    control = Control(episodes=14, budget=4, search="cem", planner=planner, rounds_again=1)
    tasks = draw_goals(store, np.arange(len(store)), worlds_of(COLLECTION.env, 14, COLLECTION.size), 0)
    return Match.of({"jepa": model}, {"jepa": "jepa"}, {"jepa": control}, store, tasks, 0)


def _paths(played: dict[str, Played]) -> list[Any]:
    return [each.path.tolist() for each in played.values()]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
