"""What `Video` may be told of a whole film: a vector sensor, such as a sentence's numbers, added to the actions."""

from __future__ import annotations

from torch import Tensor

from innerworld.errors import UserError
from innerworld.types import Obs, Spec


def unsaid(prompt: str, spec: Spec) -> Spec:
    """What is predicted: all sensors but the prompt. Raises `UserError` for one that is no vector of the sensors, and
    where nothing else is left."""
    if not prompt:
        return spec
    if prompt not in spec.vectors():
        vectors = ", ".join(spec.vectors()) or "none"
        raise UserError(f"prompt={prompt}: name a vector among the sensors; there are {vectors} (see --sensors)")
    rest = [name for name in spec.obs if name != prompt]
    if not rest:
        raise UserError(f"{prompt!r} is the only sensor: name the picture to be drawn as well (--sensors)")
    return spec.only(*rest)


def said(prompt: str, spec: Spec, obs: Obs) -> Tensor:
    """The prompt `... n` of what is seen. Raises `UserError` where it is missing or of another size."""
    if prompt not in obs:
        raise UserError(f"this model is told {prompt!r}, which is not in what is seen: {', '.join(obs)}")
    found = obs[prompt]
    if tuple(found.shape[-1:]) != spec.obs[prompt]:
        raise UserError(f"{prompt!r} of {found.shape[-1]} numbers, this model was made for {spec.obs[prompt][0]}")
    return found.float()
