"""The command line, `innerworld VERB …`: find the verb, hand it its flags, print its answer, explain its failure."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from innerworld.cli.failure import explain
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.errors import UserError, nearest

GLOBAL = {"--quiet": "no progress, only results and errors", "--json": "print the result as one JSON object"}
HELP = ("--help", "-h")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (`argv` without the program's name, by default the process's own) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        code = _run([word for word in words if word not in GLOBAL], "--quiet" in words, as_json)
        sys.stdout.flush()  # here, where a reader who has gone away can still be met in peace
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return 141
    except (Exception, KeyboardInterrupt) as error:
        line, code = explain(error)
        print(f"innerworld: {line}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": line}))
        return code


def _run(words: list[str], quiet: bool, as_json: bool) -> int:
    if not words or words[0] in HELP:
        _help()
        return 0
    if words[0] == "--version":
        from innerworld import __version__

        print(__version__)
        return 0
    name, *rest = words
    verb = _find(name)()
    from innerworld.cli.flags import parse, show_help

    if any(word in HELP for word in rest):
        show_help(name, verb, rest)
        return 0
    flags, overrides, given = parse(name, verb, rest)
    # Whatever a library prints meanwhile must not mix with the one JSON object.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        all_words = (*words, *(["--quiet"] if quiet else []), *(["--json"] if as_json else []))
        answer = verb.run(flags, Call(overrides, given, quiet, shlex.join(["innerworld", *words]), all_words))
    if answer.told:
        _print(answer, as_json)
    return answer.code


def _find(name: str) -> Callable[[], Verb]:
    if name not in VERBS:
        raise UserError(f"unknown verb {name!r}.{nearest(name, list(VERBS))} See innerworld --help")
    return VERBS[name][1]


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_finite(answer.values), default=str))
        return
    from rich.console import Console

    answer.show(Console())


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _help() -> None:
    print("usage: innerworld VERB [flags] [key=value ...]\n\nLearn what the world does, and act by imagining it.\n")
    for name, (about, _) in VERBS.items():
        print(f"  {name:<10} {about}")
    print("\nEvery verb takes:\n")
    for flag, about in GLOBAL.items():
        print(f"  {flag:<10} {about}")
    print("  --help     its flags")


# ---------------------------------------------------------------------- the verbs; each is loaded when it is called


def _demo() -> Verb:
    from innerworld.cli.run import DEMO

    return DEMO


def _collect() -> Verb:
    from innerworld.cli.collect import COLLECT

    return COLLECT


def _import() -> Verb:
    from innerworld.cli.imports import IMPORT

    return IMPORT


def _data() -> Verb:
    from innerworld.cli.store import DATA

    return DATA


def _train() -> Verb:
    from innerworld.cli.train import TRAIN

    return TRAIN


def _precompute() -> Verb:
    from innerworld.cli.precompute import PRECOMPUTE

    return PRECOMPUTE


def _sweep() -> Verb:
    from innerworld.cli.sweep import SWEEP

    return SWEEP


def _cost() -> Verb:
    from innerworld.cli.cost import COST

    return COST


def _plan() -> Verb:
    from innerworld.cli.run import PLAN

    return PLAN


def _evaluate() -> Verb:
    from innerworld.cli.run import EVALUATE

    return EVALUATE


def _play() -> Verb:
    from innerworld.cli.play import PLAY

    return PLAY


def _evolve() -> Verb:
    from innerworld.cli.evolve import EVOLVE

    return EVOLVE


def _agent() -> Verb:
    from innerworld.cli.agent import AGENT

    return AGENT


def _understand() -> Verb:
    from innerworld.cli.understand import UNDERSTAND

    return UNDERSTAND


def _surprise() -> Verb:
    from innerworld.cli.surprise import SURPRISE

    return SURPRISE


def _compare() -> Verb:
    from innerworld.cli.compare import COMPARE

    return COMPARE


def _benchmark() -> Verb:
    from innerworld.cli.benchmark import BENCHMARK

    return BENCHMARK


def _models() -> Verb:
    from innerworld.cli.maps import FAMILIES

    return FAMILIES


def _envs() -> Verb:
    from innerworld.cli.maps import WORLDS

    return WORLDS


def _planners() -> Verb:
    from innerworld.cli.maps import SEARCHES

    return SEARCHES


def _runs() -> Verb:
    from innerworld.cli.runs import RUNS

    return RUNS


def _doctor() -> Verb:
    from innerworld.cli.doctor import DOCTOR

    return DOCTOR


VERBS: dict[str, tuple[str, Callable[[], Verb]]] = {
    "demo": ("collect, teach, judge and show, start to end, in one command", _demo),
    "collect": ("let a policy explore a world and store what it sees", _collect),
    "import": ("make a store of experience from a log that others recorded", _import),
    "data": ("look at stores of experience, verify and repair them, make new ones out of old ones", _data),
    "train": ("teach a family of world models from a store", _train),
    "precompute": ("look at every frame of a store once, and keep the tokens of frozen eyes", _precompute),
    "sweep": ("teach it with other settings, side by side, and say which was best", _sweep),
    "cost": ("what a training step costs: arithmetic, memory, network", _cost),
    "plan": ("watch a taught model plan a few goals, drawn over the world", _plan),
    "evaluate": ("judge a taught model: what it foresees, what it knows, where it gets", _evaluate),
    "evolve": ("evolve a linear controller for a taught model, in its dream or in its world", _evolve),
    "play": ("watch a taught policy in its world, beside what its model imagines and dreams", _play),
    "agent": ("put a whole mind around a taught model, let it act, and hear why it did what it did", _agent),
    "understand": ("what a probe on frozen eyes can name in labelled films", _understand),
    "surprise": ("show a taught model possible and impossible films, and count which surprise it", _surprise),
    "compare": ("teach families alike, ask them the same questions, and write one table and one page", _compare),
    "benchmark": ("judge a taught model on a published benchmark of physics: Physion, PhysBench", _benchmark),
    "models": ("the families of world models there are", _models),
    "envs": ("the worlds there are", _envs),
    "planners": ("the planners there are", _planners),
    "runs": ("which runs there are, and how they stand", _runs),
    "doctor": ("is everything here that is needed, and does it work?", _doctor),
}
"""What each verb does, and where it is. To add one: write it, add its line."""
