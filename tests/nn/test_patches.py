"""Patches are the strided convolution of a ViT, but look only where they are told to."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.patches import Patches, take


@pytest.mark.parametrize(("patch", "tubelet"), [(4, 2), (8, 1)])
def test_they_are_a_convolution(patch: int, tubelet: int) -> None:
    patches, x = Patches(3, 10, patch, tubelet).double(), torch.randn(2, 3, 4, 16, 24, dtype=torch.float64)
    wanted = F.conv3d(x, patches.weight, patches.bias, stride=(tubelet, patch, patch)).flatten(2).mT
    assert patches.grid(x) == (4 // tubelet, 16 // patch, 24 // patch)
    torch.testing.assert_close(patches(x), wanted)
    keep = torch.tensor([[5, 0, 3], [1, 2, 4]])
    torch.testing.assert_close(patches(x, keep), take(wanted, keep))


def test_hidden_patches_are_not_looked_at() -> None:
    patches, x = Patches(1, 6, 4), torch.randn(1, 1, 1, 8, 8)
    x[..., 4:, :] = float("nan")
    assert patches(x, torch.tensor([[0, 1]])).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 3, 4, 16, 20), "a picture of 16×20 cannot be cut into patches of 8: resize it to a multiple"),
        ((1, 3, 1, 16, 16), "a clip of 1 frames is shorter than a tubelet of 2"),
        ((1, 3, 5, 16, 16), "5 frames cannot be cut into tubelets of 2"),
        ((1, 1, 4, 16, 16), "sees 3 channels, the picture has 1"),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Patches(3, 6, 8, 2)(torch.zeros(shape))
