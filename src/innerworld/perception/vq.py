"""Tokenizers with a vocabulary: VQ-VAE (arXiv 1711.00937) as in Genie (arXiv 2402.15391), and FSQ (arXiv 2309.15505).

Genie's tokenizer also looks back in time, frame by frame; here a frame is coded alone, so that any frame can be
tokenized and drawn by itself.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.nn.vocabulary import usage
from innerworld.perception.patch_body import BodyConfig, PatchBody
from innerworld.perception.quantise import BookConfig, Codebook, Lattice
from innerworld.perception.tokenizer import Tokenizer, TokenizerConfig
from innerworld.types import Clip, Spec

TINY = BodyConfig(dim=32, depth=1, heads=2, mlp=128)


class VQConfig(TokenizerConfig):
    width: int = Field(default=32, description="numbers of a token", ge=1)
    book: BookConfig = Field(default=BookConfig(), description="the codebook")
    body: BodyConfig = Field(default=BodyConfig(), description="the two transformers")


class FSQConfig(TokenizerConfig):
    levels: tuple[int, ...] = Field(
        default=(8, 5, 5, 5), description="steps of each number of a token; their product is the vocabulary"
    )
    body: BodyConfig = Field(default=BodyConfig(), description="the two transformers")


class Quantised(Tokenizer):
    """Patch by patch some numbers, `quantiser` makes them an entry of a vocabulary, and a second transformer draws."""

    def __init__(self, config: VQConfig | FSQConfig, spec: Spec, quantiser: Codebook | Lattice) -> None:
        super().__init__(config, spec)
        self.quantiser = quantiser
        self.width, self.codes = quantiser.width, quantiser.codes
        self.body = PatchBody(config.body, self.channels, self.patch, self.grid, self.width)

    def code(self, x: Tensor) -> Tensor:
        return self.lookup(self._indices(self.body(x)))

    def paint(self, tokens: Tensor) -> Tensor:
        return self.body.paint(tokens)

    def indices(self, tokens: Tensor) -> Tensor:
        return self.quantiser.indices(tokens)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.quantiser.lookup(indices)

    def terms(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Squared error of the pictures, and what the quantiser asks for."""
        tokens, indices, parts = self.quantiser(self.body(x))
        pixels = (self.body.paint(tokens) - x).square().mean()
        return tokens, {"pixels": pixels} | parts, usage(indices, self.codes)

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        x = self.pictures(clip.obs[self.sight.sensor])
        if isinstance(self.quantiser, Codebook):
            self.body.begin_seeing(x, 1.0, each=False)
            self.quantiser.begin(self.body(x).flatten(0, 1))
        else:
            self.body.begin_seeing(x, 0.5)  # it squeezes: rare patches lie many deviations away, and count
        self.body.begin_drawing(self.code(x), x)

    def _indices(self, rows: Tensor) -> Tensor:
        """Of what the first transformer gives: FSQ squeezes it before it rounds."""
        return self.quantiser(rows)[1] if isinstance(self.quantiser, Lattice) else self.quantiser.indices(rows)


class VQ(Quantised):
    """A learned codebook: straight-through gradients, a pull of tokens to their entries, entries that follow them."""

    Config = VQConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": VQConfig(patch=4, book=BookConfig(codes=256), body=TINY),
        "small": VQConfig(patch=4),
        # Genie, App. F (CoinRun, 64×64): 8 + 8 layers of 512, 1,024 codes of 32, patches of 4; MLP width not told.
        "genie": VQConfig(
            patch=4,
            width=32,
            book=BookConfig(codes=1024, follow="loss", dead=0.0),
            body=BodyConfig(dim=512, depth=8, heads=8, mlp=2048, begin="random"),
        ),
        # p-doom/jasmine (420859b): the same with patches of 16 and 4 + 4 blocks.
        "jasmine": VQConfig(
            patch=16,
            width=32,
            book=BookConfig(codes=1024, follow="loss", dead=0.0),
            body=BodyConfig(dim=512, depth=4, heads=8, mlp=2048, begin="random"),
        ),
    }

    def __init__(self, config: VQConfig, spec: Spec) -> None:
        super().__init__(config, spec, Codebook(config.book, config.width))

    def after_step(self) -> None:
        assert isinstance(self.quantiser, Codebook)
        self.quantiser.after_step()


class FSQ(Quantised):
    """A fixed lattice of levels: every entry can be reached, and nothing but the pictures has to be taught."""

    Config = FSQConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": FSQConfig(patch=4, body=TINY),
        "small": FSQConfig(patch=4),
        # AlmondGod/tinyworlds (a99f3a8): 5 numbers of 4 levels, patches of 4 at 64×64, 4 + 4 blocks of 32.
        "tinyworlds": FSQConfig(
            patch=4, levels=(4, 4, 4, 4, 4), body=BodyConfig(dim=32, depth=4, heads=8, mlp=128, begin="random")
        ),
    }

    def __init__(self, config: FSQConfig, spec: Spec) -> None:
        super().__init__(config, spec, Lattice(config.levels))
