"""Planning in latents beside planning in pixels: one task, one planner, as many candidates; seconds and success.

    python bench/pixel_planning.py --folder runs/pixels                                    # teaches what it compares
    python bench/pixel_planning.py --folder runs/pixels --who jepa glp glp:pixels video --teach-s 200 --goals 20
    python bench/pixel_planning.py --folder runs/pixels --who mine=runs/mine jepa control.planner.horizon=16
    python bench/pixel_planning.py --folder runs/pixels --untaught --repeats 1             # seconds alone

The task is to reach held-out goals in two rooms, half of them in the other room. Who compares is a family, taught here
for `--teach-s` CPU seconds (steps are counted out by timing a few), or NAME=FOLDER, a run of `innerworld train` on the
same world and size. The family's own energy is what it plans with: of jepa and glp the squared distance of latents, of
video, diffusion and genie the mean squared error of decoded pixels, of rssm and world_models how far decoded pictures
would have to be moved. With `:pixels` behind it any family that decodes plans by the mean squared error of its pixels
instead: the same model and the same predictions, drawn. key=value changes the search of all. `--untaught` times plans
with random weights, which make no difference to the clock, and tries no goals.

Seconds of a plan are CPU seconds of one cold plan in one world on one thread, the median of `--repeats`, without the
looks at start and goal. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerworld import checkpoint, families
from innerworld.agent import AgentConfig
from innerworld.agent.cost.cost import goal_cost
from innerworld.config import override
from innerworld.data import POLICIES, Clips, Store
from innerworld.errors import UserError
from innerworld.evaluate.control import Played, Tasks, joined, play, play_policy, wilson
from innerworld.plan import ICEM, cold, generators
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle, planner
from innerworld.recipes.lesson import Lesson, episodes, read, teach
from innerworld.recipes.stages import gather, lesson
from innerworld.recipes.two_rooms import Control, Run, School, two_rooms
from innerworld.types import Clip, Obs, State, each
from innerworld.world import Card, Roll, WorldModel

PUBLISHED = (
    "Published: 15 × (V-JEPA 2-AC, arXiv 2506.09985: 16 s an action with 800 candidates, against 4 minutes of Cosmos "
    "with 80) and 48 × (LeWorldModel, arXiv 2603.19312: 0.98 s a plan, against 47 s of DINO-WM, which is in tokens)."
)
LATENT = {"jepa", "glp", "hjepa"}  # whose energy draws nothing
AT_ONCE = 5  # goals that are tried together, and kept together
PORTION = 256  # pictures drawn at once
FLOORS = ("oracle", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the data, what is taught, and what came of it")
    parser.add_argument("--who", nargs="+", default=["jepa", "glp", "glp:pixels", "rssm", "video", "diffusion"])
    parser.add_argument("--env", default="two_rooms", help="or two_rooms_noise, two_rooms_blobs")
    parser.add_argument("--size", type=int, default=32, help="side of the pictures, pixels")
    parser.add_argument("--episodes", type=int, default=1000, help="to learn from, and a tenth more to judge")
    parser.add_argument("--teach-s", type=float, default=200.0, help="CPU seconds of teaching for each family")
    parser.add_argument("--goals", type=int, default=20, help="to be reached, at least 2")
    parser.add_argument("--repeats", type=int, default=3, help="plans that are timed")
    parser.add_argument("--untaught", action="store_true", help="teach nothing and try no goals: time plans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="control.KEY=VALUE, the search of all")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    run = override(_run(args.env, args.size, args.episodes, args.goals, args.seed), args.words)
    store = gather(run, args.folder, quiet=True)
    held_out = episodes(lesson(run, "jepa", args.folder), store)[1]
    tasks = draw_goals(store, held_out, goal_worlds(store, args.goals), run.seed, run.control)
    search = sha256(run.control.model_dump_json().encode()).hexdigest()[:8]
    results = args.folder / ("untaught" if args.untaught else "results") / search
    results.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in [*args.who, *(() if args.untaught else FLOORS)]:
        known, _, space = name.partition(":")
        if name in FLOORS:
            model = oracle(goal_worlds(store, 1), store.spec) if name == "oracle" else None
        elif args.untaught:
            torch.manual_seed(run.seed)
            model = families.build(known, lesson(run, known, args.folder).model, store.spec.only("pixels"))
            assert isinstance(model, WorldModel)
        else:
            model = _learner(run, known, args.folder, store, args.teach_s)
        if model is not None and space:
            model = Drawn(model)
        file = results / name.replace("/", "_").replace("=", "_").replace(":", "_in_")
        rows[name] = {} if args.untaught else _reached(run.control, name, model, file, store, tasks, run.seed)
        if model is not None and name not in FLOORS:
            rows[name] |= _cost(run.control, name, model, file, tasks, args.repeats)
    show(rows, run.control)


# ---------------------------------------------------------------------- who is compared


class Drawn(WorldModel):
    """A model that plans in the pixels it decodes: its energy is their mean squared error, whatever it was before."""

    card = Card("drawn", "pixels", True, "as the model's", "")

    def __init__(self, model: WorldModel) -> None:
        super().__init__(model.config, model.spec)
        self.model = model.eval()
        if not {*model.spec.images()} <= self.decode(self.encode(model.spec.blank())).keys():
            raise UserError(f"this {model.card.name} decodes no pictures: leave out :pixels")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return self.model.encode(obs, state, action)

    def predict(self, state: State, action: Tensor, rng: torch.Generator | None = None) -> State:
        return self.model.predict(state, action, rng)

    def roll(self, starts: State, horizon: int) -> Roll:
        return self.model.roll(starts, horizon)

    def imagine(self, state: State, actions: Tensor) -> State:
        return self.model.imagine(state, actions)

    def decode(self, state: State) -> dict[str, Tensor]:
        return self.model.decode(state)

    def energy(self, state: State, goal: State) -> Tensor:
        rows = len(next(iter(state.values())))
        parts = [slice(first, first + PORTION) for first in range(0, rows, PORTION)]
        return torch.cat([self._apart(part, state, goal) for part in parts])

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.loss(clip)

    def impressions(self, clip: Clip) -> Tensor:
        return self.model.impressions(clip)

    def _apart(self, part: slice, *states: State) -> Tensor:
        a, b = (self.decode(each(lambda value: value[part], state)) for state in states)
        return torch.stack([(a[name] - b[name]).square().flatten(1).mean(1) for name in self.spec.images()]).mean(0)


def _learner(run: Run, known: str, folder: Path, store: Store, seconds: float) -> WorldModel:
    """A run's model, or a family taught here."""
    _, named, path = known.partition("=")
    if named:
        return checkpoint.load(Path(path), kind=WorldModel).to("cpu")
    home = folder / known
    if (home / "run.json").exists():
        lesson_of = read(home)
    else:
        lesson_of = within(lesson(run, known, folder), store, seconds)
    began = time.process_time()
    model = teach(lesson_of, home, quiet=True, resume=(home / "run.json").exists(), command="bench/pixel_planning.py")
    assert isinstance(model, WorldModel)
    took = time.process_time() - began
    print(f"{known}: {lesson_of.train.steps} steps, {took:.0f} CPU s now", flush=True)
    return model.to("cpu")


def within(taught: Lesson, store: Store, seconds: float) -> Lesson:
    """With as many steps as fit into the seconds, by the time that some take after the first."""
    learn, _ = episodes(taught, store)
    clips = Clips(store, learn, taught.length, taught.batch, 0, 1, list(taught.sensors))
    torch.manual_seed(0)
    model = families.build(taught.family, taught.model, clips.spec).train()
    model.prepare(clips.batch(0))
    took = []
    for step in range(4):
        began = time.process_time()
        model.loss(clips.batch(step))[0].backward()
        model.zero_grad()
        took.append(time.process_time() - began)
    steps = max(2, int(seconds / median(took[1:])))
    change = {"steps": steps, "warmup": min(100, steps // 10)}
    return taught.model_copy(update={"train": taught.train.model_copy(update=change)})


# ---------------------------------------------------------------------- what came of it


def _reached(
    control: Control, name: str, model: WorldModel | None, file: Path, store: Store, tasks: Tasks, seed: int
) -> dict[str, Any]:
    """Try the goals, some at a time; what is on disk is only read."""
    played, n = [], len(tasks.start)
    for first in range(0, n, AT_ONCE):
        some = tasks.cut(first, min(first + AT_ONCE, n))
        played.append(_tried(control, model, file.with_name(f"{file.name}_{first}.npz"), store, some, seed, first))
        print(f"  {name}: {sum(int(part.success.sum()) for part in played)} of {first + len(some.start)}", flush=True)
    together = joined(played)
    return {"reached": float(together.success.sum()), "of": float(n), "steps": float(together.steps.mean())}


def _cost(control: Control, name: str, model: WorldModel, file: Path, tasks: Tasks, repeats: int) -> dict[str, Any]:
    """What a plan takes, and of what size the model is."""
    return {
        "space": "latents" if _family(name) in LATENT else "pixels",
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "plan_s": _timed(control, model, file.with_name(f"{file.name}.json"), tasks, repeats),
    }


def _tried(
    control: Control, model: WorldModel | None, file: Path, store: Store, tasks: Tasks, seed: int, first: int
) -> Played:
    if file.exists():
        kept = np.load(file)
        return Played(kept["success"], kept["steps"], kept["path"], float(kept["cpu_s"]), float(kept["plan_ms"]))
    worlds = goal_worlds(store, len(tasks.start))
    if model is None:
        played = play_policy(worlds, tasks, POLICIES["smooth"](store.spec), control.budget, seed + first)
    else:
        played = play(worlds, tasks, agent(model, control), control.budget, seed, first=first)
    numbers = {"success": played.success, "steps": played.steps, "path": played.path}
    np.savez(file, **numbers, cpu_s=np.array(played.cpu_s), plan_ms=np.array(played.plan_ms))
    return played


@torch.no_grad()
def _timed(control: Control, model: WorldModel, file: Path, tasks: Tasks, repeats: int) -> float:
    """CPU seconds of one cold plan in one world."""
    if file.exists():
        return json.loads(file.read_text())["plan_s"]
    model.eval()
    start, goal = ({name: obs[name][:1] for name in model.spec.obs} for obs in (tasks.start_obs, tasks.goal_obs))
    mind = control.agent
    cost = goal_cost(model, model.encode(start), model.encode(goal), mind.shape, mind.power, mind.every)
    search = planner(control)
    cold_start = cold(1, search.horizon, model.spec.action)
    cost(cold_start[:, None])  # the first call pays for what is made once
    took = []
    for seed in range(repeats):
        began = time.process_time()
        search(cost, cold_start, generators(seed, 1))
        took.append(time.process_time() - began)
    seconds = median(took)
    file.write_text(json.dumps({"plan_s": seconds, "all": took}))
    return seconds


def _family(name: str) -> str:
    """Of NAME, of NAME=FOLDER; nothing that there is for what plans in pixels, whatever it is."""
    _, named, path = name.partition("=")
    return read(Path(path)).family if named and ":" not in path else name


def show(rows: dict[str, dict[str, Any]], control: Control) -> None:
    """The table, and how much dearer each is than the cheapest that plans in latents."""
    search = planner(control)
    told = ", ".join(f"{key} {value}" for key, value in search.model_dump().items() if key in TOLD)
    mind = control.agent
    print(f"\n{control.search}: {told}. Planned anew each {mind.execute} of {control.budget} steps; ", end="")
    print(f"one in {mind.every} imagined steps is judged.\n")
    latent = [found["plan_s"] for found in rows.values() if found.get("space") == "latents"]
    head = "× the cheapest in latents"
    print(f"| who | plans in | parameters | CPU s a plan | {head} | goals reached | steps, mean |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, found in rows.items():
        cells = [""] * 4
        if name not in FLOORS:
            ratio = f"{found['plan_s'] / min(latent):.1f}" if latent else ""
            cells = [found["space"], f"{found['parameters']:,.0f}", f"{found['plan_s']:.2f}", ratio]
        if "reached" in found:
            low, high = wilson(int(found["reached"]), int(found["of"]))
            cells += [f"{found['reached']:.0f} of {found['of']:.0f} ({low:.0%} to {high:.0%})", f"{found['steps']:.0f}"]
        else:
            cells += ["not tried", ""]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\n{PUBLISHED}")


# ---------------------------------------------------------------------- settings

TOLD = ("horizon", "samples", "populations", "rounds", "elites")


def _run(env: str, size: int, held: int, goals: int, seed: int) -> Run:
    """One search for all, small enough for pixels; each family with its small preset."""
    plain = two_rooms(seed)
    search = ICEM(
        horizon=24, samples=128, populations=4, rounds=4, elites=16, init_std=1.0, min_std=0.1, noise_beta=2.0,
        momentum=0.0,
    )  # fmt: skip
    control = Control(
        episodes=goals, planner=search.model_dump(), rounds_again=2, agent=AgentConfig(execute=4, every=4)
    )
    train = plain.schools["jepa"].train
    quick = train.model_copy(update={"final_lr_fraction": 0.2})
    schools = {
        "jepa": School(train=train),
        "glp": School(train=train),
        "rssm": School(batch=16, length=16, train=plain.schools["rssm"].train),
        "world_models": School(batch=16, length=16, train=quick),
        "video": School(batch=16, train=quick),
        "diffusion": School(batch=16, train=quick.model_copy(update={"lr": 3e-4})),
        "genie": School(batch=16, train=quick),
    }
    known = {name: school for name, school in schools.items() if name in families.FAMILIES}
    return Run(
        env=env, size=size, episodes=max(20, int(held / 0.9)), seed=seed, schools=known, control=control, worlds=50
    )


if __name__ == "__main__":
    main()
