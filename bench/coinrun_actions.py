"""How much do actions show in CoinRun itself? PSNR of the game after wrong actions to the game after the right ones.

    python bench/coinrun_actions.py

Two games of one level live through the same steps; then one goes on as it did, and in the other buttons are pressed at
random, each step anew, as for the wrong film of ΔPSNR (Bruce et al. 2024, arXiv 2402.15391). What is told is how alike
the frames are that both show, beside how alike the last common frame is to the right one. A model whose films are less
true than that cannot show what actions do: the difference is lost in what it draws wrong anyway.

Needs procgen2 (docs/worlds.md tells how to install it).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from innerworld.data import POLICIES
from innerworld.envs import spec_of
from innerworld.envs.coinrun import CoinRunVector
from innerworld.evaluate.pictures import psnr

STEPS = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--moments", type=int, nargs="+", default=[20, 35, 50], help="steps after which the two part")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| policy | games | " + " | ".join(f"step {h}: wrong actions, last frame" for h in STEPS) + " |")
    print("|---|--:|" + "--:|" * len(STEPS))
    for policy in ("uniform", "smooth"):
        found = torch.cat([parted(policy, args.games, moment, args.seed + k) for k, moment in enumerate(args.moments)])
        cells = []
        for i in range(len(STEPS)):
            wrong, still = found[:, i].mean(0)
            cells.append(f"{float(wrong):.1f}, {float(still):.1f}")
        print(f"| {policy} | {len(found)} | {' | '.join(cells)} |", flush=True)


def parted(policy: str, games: int, moment: int, seed: int) -> torch.Tensor:
    """PSNR of wrong frames and of the last common one to the right frames, `n steps 2`, of games that all go on."""
    one, other = CoinRunVector(games), CoinRunVector(games)
    spec = spec_of(one.single_observation_space, one.single_action_space)
    act, by_chance = POLICIES[policy](spec), POLICIES["uniform"](spec)
    rng = np.random.default_rng(seed)
    seen, _ = one.reset(seed=seed)
    other.reset(seed=seed)
    live = np.ones(games, bool)

    def both(mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal seen, live
        seen, _, *mine_over, _ = one.step(mine)
        shown, _, *theirs_over, _ = other.step(theirs)
        live &= ~np.any([*mine_over, *theirs_over], axis=0)
        return seen["pixels"], shown["pixels"]

    for _ in range(moment):
        done = act(seen, rng).argmax(1)
        right, wrong = both(done, done)
        assert np.array_equal(right, wrong), "two games of one seed are one game"
    last, found = right, []
    for _ in range(max(STEPS)):
        right, wrong = both(act(seen, rng).argmax(1), by_chance(seen, rng).argmax(1))
        found.append(
            [psnr(*(torch.from_numpy(of)[:, None] for of in pair)) for pair in ((wrong, right), (last, right))]
        )
    one.close()
    other.close()
    kept = [torch.cat(found[h - 1], dim=1) for h in STEPS]  # each n 2
    return torch.stack(kept, dim=1)[torch.from_numpy(live)]


if __name__ == "__main__":
    main()
