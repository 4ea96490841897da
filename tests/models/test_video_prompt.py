"""A prompt: what is said of a whole film is told with every frame, and a film begins with it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, nn

from innerworld.errors import UserError
from innerworld.models.video import Video
from innerworld.models.video_config import VideoConfig
from innerworld.testing import check_world_model
from innerworld.testing.world_model import check_saved, random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3), "mission": (5,)}, 2)
BODY = {"dim": 16, "depth": 4, "heads": 2, "mlp": 2.0, "window": 3}
TINY: dict[str, Any] = {"prompt": "mission", "codec": {"width": 4}, "backbone": BODY, "steps": 2}
KINDS: dict[str, dict[str, Any]] = {
    "adaln": {},
    "token": {"backbone": BODY | {"steering": "token"}},
    "not causal": {"noise": "shared", "blank": 0.0, "backbone": BODY | {"causal": False, "window": 7}},
    "edges": {"control": {"kind": "edges"}},
}


def build(spec: Spec = SPEC, **words: Any) -> Video:
    torch.manual_seed(0)
    model = Video(VideoConfig.model_validate(TINY | words), spec)
    for p in model.net.parameters():
        nn.init.normal_(p, std=0.2)
    return model.eval()


@pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)
def test_it_keeps_the_contract(words: dict[str, Any]) -> None:
    check_world_model(lambda spec: build(spec, **words), SPEC)
    check_saved(build(**words))


def test_a_film_begins_with_its_prompt_alone_and_goes_on_with_it() -> None:
    model, rng = build(), lambda: Generator().manual_seed(0)
    prompt = torch.eye(5)[:3]
    begun = model.begin(prompt, rng())
    assert model.decode(begun)["pixels"].shape == (3, 16, 16, 3) and "mission" not in model.decode(begun)
    again, others = model.begin(prompt, rng()), model.begin(prompt.roll(1, 0), rng())
    assert torch.equal(begun["z"], again["z"])
    assert (begun["z"] - others["z"]).abs().amax((1, 2)).min() > 1e-3
    on = model.predict(begun, torch.zeros(3, 2), rng())
    assert torch.equal(on["prompt"], begun["prompt"])
    swapped = begun | {"prompt": others["prompt"]}
    assert (on["z"] - model.predict(swapped, torch.zeros(3, 2), rng())["z"]).abs().amax((1, 2)).min() > 1e-3


def test_a_dropped_prompt_is_not_told_in_training_only() -> None:
    model, clip = build(action_dropout=0.9), random_clip(SPEC, 4, 6)
    other = Clip(clip.obs | {"mission": clip.obs["mission"] + 1.0}, clip.action, clip.reward, clip.terminated)
    same = []
    for train in (False, True):
        model.train(train)
        torch.manual_seed(0)
        one = model._acts(clip, drop=True)
        torch.manual_seed(0)
        same.append((one == model._acts(other, drop=True)).all(-1).float().mean())
    assert same[0] == 0 and 0.7 < same[1] < 1
    assert torch.equal(model._acts(clip)[:, 0], model.net.unknown + model._prompt(clip.obs)["prompt"][:, 0])


def test_with_guidance_a_prompt_counts_for_more() -> None:
    plain, guided = build(action_dropout=0.1), build(action_dropout=0.1, guidance=3.0)
    apart = []
    for model in (plain, guided):
        one, other = (model.begin(torch.eye(5)[i : i + 1], Generator().manual_seed(0))["z"] for i in (0, 1))
        apart.append((one - other).abs().mean())
    assert apart[1] > apart[0]


def test_it_learns_what_a_prompt_says() -> None:
    """Two prompts, of dark films and of bright ones: what is begun with each is as dark or as bright."""
    torch.manual_seed(0)
    spec = Spec({"pixels": (8, 8, 3), "mission": (2,)}, 2)
    said = torch.eye(2)[torch.arange(16) % 2]
    shade = 40 + 160 * said[:, 1] + 20 * torch.rand(16)
    pixels = shade[:, None, None, None, None].expand(16, 4, 8, 8, 3) + 10 * torch.rand(16, 4, 8, 8, 3)
    blank = random_clip(spec, 16, 3)
    obs = {"pixels": pixels.to(torch.uint8), "mission": said[:, None].expand(16, 4, 2)}
    clip = Clip(obs, blank.action, torch.zeros(16, 3), torch.zeros(16, 3, dtype=torch.bool))
    body = {"dim": 32, "depth": 2, "heads": 2, "window": 4}
    words = TINY | {"backbone": body, "steps": 4, "reward": 0.0, "continues": 0.0}
    model = Video(VideoConfig.model_validate(words), spec)
    model.prepare(clip)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
    with torch.no_grad():
        drawn = model.eval().decode(model.begin(torch.eye(2).repeat(8, 1), Generator().manual_seed(1)))["pixels"]
    dark, bright = drawn.mean((1, 2, 3)).view(8, 2).unbind(1)
    assert dark.max() < 0.4 < 0.6 < bright.min()


def test_prompts_that_do_not_fit_are_refused() -> None:
    for prompt, spec, says in (
        ("words", SPEC, "prompt=words: name a vector among the sensors; there are mission"),
        ("pixels", SPEC, "name a vector"),
        ("mission", Spec({"mission": (5,)}, 2), "is the only sensor"),
    ):
        with pytest.raises(UserError, match=says):
            Video(VideoConfig.model_validate(TINY | {"prompt": prompt}), spec)
    model, clip = build(), random_clip(SPEC, 2, 2)
    with pytest.raises(UserError, match="is told 'mission', which is not in what is seen: pixels"):
        model.encode({"pixels": clip.obs["pixels"][:, 0]})
    with pytest.raises(UserError, match="of 4 numbers, this model was made for 5"):
        model.begin(torch.zeros(2, 4))
    with pytest.raises(UserError, match="has no prompt"):
        build(Spec({"pixels": (16, 16, 3)}, 2), prompt="").begin(torch.zeros(2, 5))
