"""How fast are the films of the physics world? Frames per CPU second, physics and drawing and all sensors, one process.

python bench/physics_films.py
python bench/physics_films.py --size 128 --films 400
"""

from __future__ import annotations

import argparse
import time

from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import Dimensions, possible, quadruplets
from innerworld.envs.physics.scene import FRAMES

PORTION = 20  # films at a time, so that memory stays small


def rate(principle: str, films: int, size: int, dimensions: Dimensions) -> tuple[float, float]:
    """Frames per CPU second of possible films alone, and of quadruplets, whose impossible half costs only copies."""
    begin = time.process_time()
    for i in range(films // PORTION):
        possible(PORTION, i, size, (principle,), dimensions)
    alone = films // PORTION * PORTION * FRAMES / (time.process_time() - begin)
    begin = time.process_time()
    for i in range(films // PORTION):
        quadruplets(principle, PORTION // 4, 0, size, i * (PORTION // 4), dimensions)
    return alone, films // PORTION * PORTION * FRAMES / (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=200, help="of each kind and principle")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, pixels")
    parser.add_argument("--dimensions", type=int, default=2, choices=(2, 3), help="of the pictures; 3: by MuJoCo")
    options = parser.parse_args()
    print(f"Frames per CPU second at {options.size} x {options.size}, in {options.dimensions} dimensions.\n")
    print("| principle | possible films | quadruplets |\n|---|--:|--:|")
    possible(PORTION, 0, options.size, dimensions=options.dimensions)  # the first pays for imports
    rates = []
    for principle in PRINCIPLES:
        rates.append(rate(principle, options.films, options.size, options.dimensions))
        print(f"| {principle} | {rates[-1][0]:,.0f} | {rates[-1][1]:,.0f} |", flush=True)
    means = (len(rates) / sum(1 / each[k] for each in rates) for k in (0, 1))
    print("| all | {:,.0f} | {:,.0f} |".format(*means))


if __name__ == "__main__":
    main()
