"""Does a world follow its actions? ΔPSNR, the price of wrong actions, and actions read back off imagined frames.

"Different actions, same video" is what users of every generative world model report; an error of prediction hides it,
for most of a picture does not depend on the action.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.evaluate.bootstrap import ratio_with_interval, with_interval
from innerworld.evaluate.inverse import InverseModel
from innerworld.evaluate.pictures import psnr, squared_error
from innerworld.evaluate.untouched import same_random, untouched
from innerworld.types import Clip
from innerworld.world import WorldModel

GROUPS = 8  # of clips, whose losses are compared: a loss is one number for all of its clips


def delta_psnr(shown: Tensor, wrong: Tensor, true: Tensor, step: int = 4, seed: int = 0) -> dict[str, float]:
    """ΔₜPSNR of Genie (Bruce et al. 2024, arXiv 2402.15391, §3): PSNR(x_t, x̂_t) - PSNR(x_t, x̂'_t), in dB.

    The protocol: after the same frames, x̂ is imagined with the actions that were really done and x̂' with actions drawn
    uniformly at random, each step anew (one of them may happen to be the true one); both with the same noise. The
    difference is taken for each clip at step t (4 in the paper) and averaged over clips. Frames `b h y x c` uint8.
    Genie infers its true actions from the video; ours are recorded. 0: what is done does not matter. The number
    depends on how much of the picture an action moves, so compare it on the same data only.
    """
    at = step - 1
    gain = psnr(shown[:, at], true[:, at]) - psnr(wrong[:, at], true[:, at])
    return with_interval(f"delta_psnr_{step}", gain, seed)


def shuffled_picture(shown: Tensor, swapped: Tensor, true: Tensor, step: int = 4, seed: int = 0) -> dict[str, float]:
    """Mean squared error at a step where clips were given each other's actions, over that with their own."""
    wrong, own = (squared_error(film[:, step - 1], true[:, step - 1]) for film in (swapped, shown))
    return ratio_with_interval(f"shuffled_picture_ratio_{step}", wrong, own, seed)


def shuffled_loss(model: WorldModel, clip: Clip, seed: int = 0) -> dict[str, float]:
    """The loss where clips were given each other's actions, over that with their own; 1: it does not see them.

    Clips are judged in groups, with the same chance for both; the interval is over groups. The model stays as it is.
    """
    swapped = shuffled(clip, seed)
    probed = deepcopy(model)  # a loss may count along, as returns are normalised with
    own, wrong = [], []
    with untouched(probed) as device, same_random(device):
        for rows in torch.arange(len(clip.action)).tensor_split(min(GROUPS, len(clip.action))):
            for found, given in ((own, clip), (wrong, swapped)):
                torch.manual_seed(seed)
                found.append(float(probed.loss(given.rows(rows).to(device))[0]))
    return ratio_with_interval("shuffled_loss_ratio", torch.tensor(wrong), torch.tensor(own), seed)


def shuffled(clip: Clip, seed: int = 0) -> Clip:
    """The same frames with the actions of other clips, each clip's given to another one."""
    return Clip(clip.obs, clip.action[others(len(clip.action), seed)], clip.reward, clip.terminated)


def others(n: int, seed: int = 0) -> Tensor:
    """For each of n a different one, nobody's own: `n`."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


@dataclass(frozen=True)
class Read:
    """How well an inverse model reads the actions of films, for each step: `b h`.

    Of choices: 1 where the right one was read, else 0. Of continuous actions: the squared errors, and those of guessing
    the mean action, whose sums make R².
    """

    score: Tensor
    blind: Tensor | None = None

    def metrics(self, name: str, seed: int = 0) -> dict[str, float]:
        """Accuracy as `name`, or R² as `name_r2`, over all steps, with its interval over clips."""
        if self.blind is None:
            return with_interval(name, self.score.mean(dim=1), seed)
        found = ratio_with_interval("error", self.score.mean(dim=1), self.blind.mean(dim=1), seed)
        return {
            f"{name}_r2": 1 - found["error"],
            f"{name}_r2_low": 1 - found["error_high"],
            f"{name}_r2_high": 1 - found["error_low"],
        }

    def along(self) -> list[float]:
        """The same at each step, over all clips."""
        share = self.score.mean(dim=0)
        return (share if self.blind is None else 1 - share / self.blind.mean(dim=0)).tolist()


def read_back(reader: InverseModel, frames: Tensor, actions: Tensor) -> Read:
    """Read the actions `b h a` off the films `b h+1 y x c` uint8 that they made."""
    told, _ = reader.read(frames)
    if reader.discrete:
        return Read((told.argmax(-1) == actions.argmax(-1)).float())
    blind = (actions - actions.mean((0, 1))).square().mean(dim=-1)
    return Read((told - actions).square().mean(dim=-1), blind)
