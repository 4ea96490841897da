"""Video understanding: how much of what happens in a film can an attentive probe read off frozen tokens?"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from typing import Protocol, TypedDict

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.nn.probe import AttentiveProbe
from innerworld.nn.schedules import warmup_cosine

See = Callable[[Tensor], Tensor]
"""Films `b t y x c` uint8 → tokens `b s d`, without gradients."""


class Films(Protocol):
    """Films `n t y x c` uint8, of which slices are taken: an array, or something that decodes them then."""

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice, /) -> np.ndarray: ...


class UnderstandingConfig(Config):
    """Probes of every learning rate and decay are trained beside each other, as V-JEPA 2 does (arXiv 2506.09985, §D);
    the best on films set aside from those to learn from is the one that is judged, so that no choice sees the test."""

    blocks: int = Field(default=1, ge=1, description="of the probe: 1 as V-JEPA, 4 as V-JEPA 2")
    heads: int = Field(default=4, ge=1, description="of the probe's attention")
    epochs: int = Field(default=20, ge=1, description="passes over the films to learn from")
    batch: int = Field(default=32, ge=1, description="films in a step")
    lr: tuple[float, ...] = Field(default=(3e-3, 1e-3, 3e-4), description="learning rates tried")
    weight_decay: tuple[float, ...] = Field(default=(0.01, 0.1), description="decays tried")
    set_aside: float = Field(default=0.2, gt=0, lt=1, description="share of the films that chooses among the probes")
    seed: int = Field(default=0, ge=0, description="of the probes, their order of films and what is set aside")


class Understanding(TypedDict):
    """Share of test films named right, its 95 % interval, and what guessing the commonest label would give."""

    top1: float
    low: float
    high: float
    chance: float
    lr: float  # of the probe that was chosen
    weight_decay: float


def understand(
    see: See,
    learn: tuple[Films, np.ndarray],
    test: tuple[Films, np.ndarray],
    config: UnderstandingConfig = UnderstandingConfig(),
    device: torch.device | None = None,
) -> Understanding:
    """Train probes on the tokens of `learn` (films and labels `n`) and judge one of them on `test`.

    Films are seen once, and their tokens kept. `device` is where probes are trained (none: the CPU). Raises `UserError`
    for films without labels, labels that are no whole numbers from 0, fewer than ten films, tokens that do not fit into
    this machine's memory, and a number of heads that does not divide their width.
    """
    for films, label in (learn, test):
        if len(films) != len(label) or len(films) < 10 or label.dtype.kind not in "iu" or label.min() < 0:
            raise UserError(f"understand: {len(films)} films with {len(label)} labels: give ten or more, labels from 0")
    classes = int(max(learn[1].max(), test[1].max())) + 1
    tokens, label = tokens_of(see, learn[0], config.batch), torch.from_numpy(learn[1].astype(np.int64))
    if tokens.shape[-1] % config.heads:
        raise UserError(
            f"heads={config.heads} do not divide tokens of {tokens.shape[-1]} channels: choose another number"
        )
    rng = np.random.default_rng(config.seed)
    order = torch.from_numpy(rng.permutation(len(tokens)))
    aside = max(1, round(len(tokens) * config.set_aside))
    probes = _train(tokens, label, order[aside:], classes, config, device or torch.device("cpu"))
    right = [_right(probe, tokens[order[:aside]], label[order[:aside]]) for probe in probes]
    best = int(np.argmax(right))
    hits = _right(probes[best], tokens_of(see, test[0], config.batch), torch.from_numpy(test[1].astype(np.int64)))
    low, high = wilson(hits, len(test[1]))
    lr, decay = list(product(config.lr, config.weight_decay))[best]
    guess = np.bincount(learn[1]).argmax()
    return Understanding(
        top1=hits / len(test[1]),
        low=low,
        high=high,
        chance=float((test[1] == guess).mean()),
        lr=lr,
        weight_decay=decay,
    )


@torch.no_grad()
def tokens_of(see: See, films: Films, batch: int) -> Tensor:
    """The tokens of all films, `n s d`, seen `batch` at a time. Raises `UserError` where memory cannot hold them."""
    first = see(torch.from_numpy(films[:batch])).cpu()
    _check_memory(first[0].nbytes, len(films))
    tokens = first.new_empty(len(films), *first.shape[1:])
    tokens[:batch] = first
    for i in range(batch, len(films), batch):
        tokens[i : i + batch] = see(torch.from_numpy(films[i : i + batch])).cpu()
    return tokens


def one_frame(see: See) -> See:
    """The same eyes, shown only the middle frame of each film, standing still: what motion adds is the difference."""
    return lambda films: see(films[:, films.shape[1] // 2, None].expand(-1, films.shape[1], -1, -1, -1))


def _check_memory(each: int, n: int) -> None:
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if each * n > here:
        raise UserError(
            f"the tokens of {n:,} films take {each * n / 1e9:,.1f} GB, this machine has {here / 1e9:,.1f} GB: "
            "give fewer films, fewer frames or smaller pictures"
        )


def _train(
    tokens: Tensor, label: Tensor, rows: Tensor, classes: int, config: UnderstandingConfig, device: torch.device
) -> list[AttentiveProbe]:
    """One probe for each pair of learning rate and decay, all beginning alike and shown the same batches."""
    mean, scale = tokens.mean((0, 1)), tokens.std((0, 1)).clamp_min(1e-6)
    probes, optimisers = [], []
    for lr, decay in product(config.lr, config.weight_decay):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            probe = _Standardised(mean, scale, classes, config).to(device)
        probes.append(probe)
        optimisers.append(AdamW(probe.parameters(), lr=lr, weight_decay=decay))
    rng = np.random.default_rng([config.seed, 1])
    per_epoch = -(-len(rows) // config.batch)
    steps = config.epochs * per_epoch
    for step in range(steps):
        if step % per_epoch == 0:
            shuffled = rows[torch.from_numpy(rng.permutation(len(rows)))]
        some = shuffled[(step % per_epoch) * config.batch :][: config.batch]
        x, y = tokens[some].to(device), label[some].to(device)
        for probe, optimiser, (lr, _) in zip(probes, optimisers, product(config.lr, config.weight_decay), strict=True):
            optimiser.param_groups[0]["lr"] = warmup_cosine(step, steps, lr, per_epoch)
            optimiser.zero_grad()
            F.cross_entropy(probe(x), y).backward()
            optimiser.step()
    return [probe.eval() for probe in probes]


class _Standardised(AttentiveProbe):
    """A probe that first brings each channel to mean 0 and deviation 1, so that no family's scale is favoured."""

    def __init__(self, mean: Tensor, scale: Tensor, classes: int, config: UnderstandingConfig) -> None:
        super().__init__(len(mean), classes, config.heads, config.blocks)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward((tokens - self.mean) / self.scale)


@torch.no_grad()
def _right(probe: AttentiveProbe, tokens: Tensor, label: Tensor) -> int:
    device = next(probe.parameters()).device
    parts = zip(tokens.split(64), label.split(64), strict=True)
    return int(sum((probe(t.to(device)).argmax(-1).cpu() == y).sum() for t, y in parts))
