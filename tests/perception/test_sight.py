"""What encoders look at: sizes, channels and scales of brightness."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.perception.sight import Sight, SightConfig
from innerworld.types import Spec


def test_frames_and_films() -> None:
    sight = Sight(SightConfig(size=8), Spec({"eye": (16, 16, 3), "hand": (2,)}, 1))
    film = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8)
    seen = sight({"eye": film})
    assert seen.shape == (2, 3, 5, 8, 8)
    torch.testing.assert_close(sight({"eye": film[:, 3]}), seen[:, :, 3])
    wanted = film[1, 4, :2, :2, 2].float().mean() / 255 * 2 - 1
    torch.testing.assert_close(seen[1, 2, 4, 0, 0], wanted)


def test_imagenets_scale() -> None:
    sight = Sight(SightConfig(pixels="imagenet"), Spec({"eye": (4, 4, 3)}, 1))
    gray = sight({"eye": torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)})
    assert gray[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (SightConfig(), r"here are \['eye', 'other'\]: name one as sight.sensor"),
        (SightConfig(sensor="hand"), "no image sensor 'hand' here. There are: eye, other"),
        (SightConfig(sensor="other", pixels="imagenet"), "'other' has 1 channels, ImageNet's scale 3"),
    ],
)
def test_what_is_not_plain_is_refused(config: SightConfig, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Sight(config, Spec({"eye": (4, 4, 3), "other": (4, 4, 1), "hand": (2,)}, 1))


def test_other_axes_are_refused() -> None:
    with pytest.raises(UserError, match="this has 3 axes"):
        Sight(SightConfig(), Spec({"eye": (4, 4, 3)}, 1))({"eye": torch.zeros(4, 4, 3)})
