"""What shapes an energy? Each way of docs/energy.md on points of a plane, and what happens without any.

    python bench/energy_shaping.py --seeds 0 1 2
    python bench/energy_shaping.py --draw docs/energy.svg

Points lie on a ring, two moons or a spiral, with a little noise. Each way learns from 2,000 of them; then 2,000 others
are compared with 2,000 even draws of the square that are not near any. A way is judged by how often a point off the
data has more energy than one on it (0.5 is chance), and by the mean energies of both. The picture: the ring, seed 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from innerworld.energy import (
    Energy,
    box,
    divergence,
    hinge,
    joint,
    landscape,
    langevin,
    nearest_code,
    reconstruction,
    separation,
    sparse,
)
from innerworld.losses import directions, sigreg, vicreg
from innerworld.nn.mlp import MLP
from innerworld.perception.quantise import BookConfig, Codebook

POINTS, BATCH, SIDE, NEAR, NOISE = 2000, 256, 2.0, 0.25, 0.05
SHOWN = 1.6  # half of the side of a drawn landscape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shapes", nargs="+", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--draw", type=Path, help="draw four landscapes into this .svg instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.draw:
        draw(args.draw)
        return
    print("| way | points | off above on | mean energy on | off | CPU s |\n|---|---|--:|--:|--:|--:|")
    for way in args.ways:
        for shape in args.shapes:
            rows = [judged(way, shape, seed) for seed in args.seeds]
            share, on, off, took = (", ".join(f"{row[i]:.{digits}g}" for row in rows) for i, digits in COLUMNS)
            print(f"| {way} | {shape} | {share} | {on} | {off} | {took} |", flush=True)


COLUMNS = ((0, 3), (1, 2), (2, 2), (3, 2))


def judged(way: str, shape: str, seed: int) -> tuple[float, float, float, float]:
    """Share of pairs in order, mean energies on and off the data, CPU seconds."""
    began = time.process_time()
    energy = taught(way, shape, seed)
    took = time.process_time() - began
    with torch.no_grad():
        on, off = (energy(points) for points in held_out(shape, seed))
    return separation(on, off), float(on.mean()), float(off.mean()), took


def taught(way: str, shape: str, seed: int) -> Energy:
    torch.manual_seed(seed)
    rng = Generator().manual_seed(seed)
    return WAYS[way](points(shape, POINTS, np.random.default_rng(seed)), rng)


# ---------------------------------------------------------------------- points


def points(shape: str, n: int, rng: np.random.Generator, noise: float = NOISE) -> Tensor:
    clean = SHAPES[shape](rng.random(n), rng)
    return torch.from_numpy(clean + noise * rng.normal(size=(n, 2))).float()


def ring(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = 2 * np.pi * along
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def moons(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, upper = np.pi * along, rng.random(len(along)) < 0.5
    x, y = np.cos(angle), np.sin(angle)
    return np.stack([np.where(upper, x - 0.5, 0.5 - x), np.where(upper, y - 0.25, 0.25 - y)], axis=1)


def spiral(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle = 3 * np.pi * np.sqrt(along)
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) * (1.6 / (3 * np.pi))


SHAPES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "ring": ring,
    "moons": moons,
    "spiral": spiral,
}


def held_out(shape: str, seed: int) -> tuple[Tensor, Tensor]:
    """Points that were not learnt from, and points of the square that are not near any."""
    rng = np.random.default_rng(1000 + seed)
    on = points(shape, POINTS, rng)
    clean = points(shape, POINTS, rng, noise=0.0)
    even = torch.from_numpy(rng.uniform(-SIDE, SIDE, (4 * POINTS, 2))).float()
    far = torch.cdist(even, clean).amin(dim=1) > NEAR
    return on, even[far][:POINTS]


# ---------------------------------------------------------------------- ways


def contrastive(data: Tensor, rng: Generator, steps: int = 200) -> Energy:
    """Down on data, up on what the model itself draws there (`divergence`); of ten chains one begins anew."""
    net = MLP(2, 64, 2, 1, norm="none")
    chains = SIDE * (2 * torch.rand(BATCH, 2, generator=rng) - 1)

    def energy(x: Tensor) -> Tensor:
        return net(x)[..., 0]

    def loss(x: Tensor) -> Tensor:
        nonlocal chains
        even = SIDE * (2 * torch.rand(x.shape, generator=rng) - 1)
        chains = torch.where(torch.rand(len(x), 1, generator=rng) < 0.1, even, chains)
        chains = langevin(energy, chains, rng, steps=5, step_size=0.1, temperature=0.1, project=box(-SIDE, SIDE)).x
        return divergence(energy(x), energy(chains), weight=0.03)

    train(net, data, rng, steps, loss)
    return energy


def margin(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    """Data lower by a margin than even draws of the square (`hinge`): fit for two numbers, hopeless for many."""
    net = MLP(2, 64, 2, 1, norm="none")

    def loss(x: Tensor) -> Tensor:
        even = SIDE * (2 * torch.rand(x.shape, generator=rng) - 1)
        return hinge(net(x)[:, 0], net(even)[:, 0])

    train(net, data, rng, steps, loss)
    return lambda x: net(x)[..., 0]


def variance(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    return embedded(data, rng, steps, lambda a, b: vicreg(a, b)[0])


def gaussian(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        ways = directions(a.shape[1], 16, a, rng)
        return (a - b).square().mean() + 0.02 * (sigreg(a, ways) + sigreg(b, ways))

    return embedded(data, rng, steps, loss)


def unshaped(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    """The same without a regulariser."""
    return embedded(data, rng, steps, lambda a, b: (a - b).square().mean())


def embedded(data: Tensor, rng: Generator, steps: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Energy:
    """Both coordinates are embedded, each by its own net; the energy is how far apart the embeddings are."""
    nets = nn.ModuleList(MLP(1, 64, 2, 4, norm="none") for _ in range(2))
    train(nets, data, rng, steps, lambda x: loss(nets[0](x[:, :1]), nets[1](x[:, 1:])))
    return joint(nets[0], nets[1], split=1)


def few_atoms(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    """Sparse coding with atoms in a plane above the points: (x, y, 1) is told by a few of 24."""

    def lifted(x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)

    atoms = nn.Parameter(lifted(data[:24]).clone())
    holder = nn.ParameterList([atoms])
    energy = lambda x: sparse(nn.functional.normalize(atoms, dim=1), 0.1, steps=15)(lifted(x))
    train(holder, data, rng, steps // 3, lambda x: energy(x).mean(), lr=0.01)
    return energy


def autoencoder(data: Tensor, rng: Generator, steps: int = 300) -> Energy:
    """Through one number."""
    through = nn.Sequential(MLP(2, 64, 2, 1, norm="none"), MLP(1, 64, 2, 2, norm="none"))
    energy = reconstruction(through)
    train(through, data, rng, steps, lambda x: energy(x).mean())
    return energy


def line(data: Tensor, rng: Generator) -> Energy:
    """Through the first direction of a PCA, which is a straight line."""
    mean = data.mean(dim=0)
    first = torch.linalg.svd(data - mean, full_matrices=False)[2][:1]  # 1 2
    return reconstruction(lambda x: mean + (x - mean) @ first.T @ first)


def codes(data: Tensor, rng: Generator) -> Energy:
    """32 codes, found by k-means."""
    book = Codebook(BookConfig(codes=32), 2)
    book.begin(data)
    return nearest_code(book.entries)


WAYS: dict[str, Callable[[Tensor, Generator], Energy]] = {
    "contrastive, own draws": contrastive,
    "contrastive, even draws": margin,
    "VICReg": variance,
    "SIGReg": gaussian,
    "sparse latent": few_atoms,
    "autoencoder": autoencoder,
    "PCA": line,
    "VQ": codes,
    "none": unshaped,
}


def train(
    net: nn.Module, data: Tensor, rng: Generator, steps: int, loss: Callable[[Tensor], Tensor], lr: float = 5e-3
) -> None:
    step = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (BATCH,), generator=rng)]
        step.zero_grad()
        loss(batch).backward()
        step.step()
    net.requires_grad_(False)


# ---------------------------------------------------------------------- the picture


def draw(out: Path) -> None:
    """The ring's energy in four ways; the last, which is flat, in the colours of the second, whose form it has."""
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "DejaVu Sans", "svg.hashsalt": "innerworld"}
    shown = {
        "contrastive, own draws": "contrastive (own draws)",
        "VICReg": "regularised (VICReg)",
        "VQ": "architectural (VQ)",
        "none": "no shaping: collapsed",
    }
    on, off = held_out("ring", 0)
    figure, axes = pyplot.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
    top = {}
    for axis, (way, name) in zip(axes, shown.items(), strict=True):
        energy = taught(way, "ring", 0)
        found = landscape(energy, torch.zeros(2), torch.eye(2), SHOWN, points=61, at_once=3721).energy
        low = 0.0 if way in ("VICReg", "none") else float(found.min())
        top[way] = float(np.quantile(found, 0.6))
        high = top["VICReg"] if way == "none" else top[way]
        axis.imshow(found, extent=(-SHOWN, SHOWN, -SHOWN, SHOWN), origin="lower", vmin=low, vmax=high, cmap="cividis")
        axis.plot(*on[:120].T, ".", color="white", markersize=2)
        with torch.no_grad():
            share = separation(energy(on), energy(off))
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(f"energy {found.min():.1g} to {found.max():.2g}\noff above on: {share:.3f}", fontsize=9)
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
