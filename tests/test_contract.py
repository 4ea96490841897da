"""Every family keeps the contract, in every world; planners: tests/testing/test_planner.py."""

from __future__ import annotations

import pytest

from innerworld.config import Config
from innerworld.envs.two_rooms import Dynamics
from innerworld.models import GLP, HJEPA, JEPA, MODELS, RSSM, Oracle
from innerworld.models.diffusion import Diffusion
from innerworld.models.dino_wm import DinoWM
from innerworld.models.dreamer import Dreamer
from innerworld.models.genie import Genie
from innerworld.models.oracle import OracleConfig
from innerworld.models.sequence import SequenceModel
from innerworld.models.video import Video
from innerworld.models.vjepa2_ac import VJEPA2AC
from innerworld.models.world_models import WorldModels
from innerworld.testing import check_world_model
from innerworld.types import Spec

WORLDS = {
    "pixels": Spec({"pixels": (16, 16, 3)}, 2),
    "vector": Spec({"speed": (3,)}, 2),
    "mixed": Spec({"pixels": (16, 24, 3), "speed": (3,), "touch": (16, 16, 1)}, 2),
    "choices": Spec({"pixels": (16, 16, 1), "speed": (3,)}, 4, discrete=True),
}
JEPA_TINY = {"channels": 4, "latent": 8, "hidden": 16, "slices": 16, "heads": 2, "head_dim": 4}
JEPA_VIT = {"encoder": "vit", "image_size": 16, "patch": 8, "vit_dim": 12, "vit_depth": 1}
HJEPA_ABOVE = {"steps": 2, "code": 3, "hidden": 16, "depth": 1}
RSSM_TINY = {"deter": 64, "hidden": 32, "stoch": 8, "classes": 4, "depth": 8, "units": 32, "layers": 1, "mults": (1, 2)}
RSSM_TINY |= {"image": "strided", "image_size": 8}
DINO_TINY = {"eyes": {"vit": {"dim": 24, "depth": 1, "heads": 2, "mlp": 32, "patch": 8}}}
DINO_TINY |= {"depth": 2, "heads": 2, "head_dim": 12, "mlp": 32, "dropout": 0.0, "action_dim": 4, "proprio_dim": 4}
AC_TINY = {"eyes": {"vit": {"dim": 24, "depth": 1, "heads": 2, "mlp": 32, "patch": 8, "tubelet": 2}}}
AC_TINY |= {"dim": 24, "depth": 2, "heads": 2, "mlp": 48, "window": 3}
WM_TINY = {"z": 6, "hidden": 16, "mixtures": 3, "units": 16, "bins": 41, "image_size": 8, "stages": 1, "depth": 4}
DREAMER_TINY = {"world": RSSM_TINY, "actor_critic": {"horizon": 4, "actor": {"units": 32}, "critic": {"units": 32}}}
DREAMER_V1 = {"world": RSSM_TINY | {"latent": "gaussian"}, "actor_critic": {"horizon": 4, "gradients": "dynamics"}}
DREAMER_V1["actor_critic"] |= {"actor": {"continuous": "tanh_normal"}, "critic": {"kind": "normal", "slow_weight": 0}}
DREAMER_SIGHT = {"world": RSSM_TINY, "actor_critic": {"horizon": 4, "sight": {"channels": (4, 8), "size": 8}}}
SEQUENCE_TINY = {"stoch": 4, "units": 16, "posterior_units": 16, "prior_units": 16, "depth": 4, "mults": (1, 2)}
SEQUENCE_TINY |= {"image": "strided", "image_size": 8}
VIDEO_BODY = {"dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "window": 3}
VIDEO_TINY = {"codec": {"width": 4}, "backbone": VIDEO_BODY, "steps": 2, "units": 16, "bins": 41}
BACKBONE_TINY = {"dim": 16, "heads": 2, "mlp": 16, "window": 4, "state": 8, "mamba2": {"head": 8, "state": 4}}
GLP_TINY = {"jepa": JEPA_TINY, "codec": {"width": 8}, "decoder": {"dim": 16, "depth": 2, "heads": 2, "steer": 16}}
GLP_WINDOW = GLP_TINY["decoder"] | {"kind": "window", "predicts": "v"}
DIFFUSION_TINY = {"image_size": 8, "steer": 8, "channels": (8, 8), "depths": (1, 1), "steps": 2}
DIFFUSION_TINY |= {"ends": {"hidden": 8, "steer": 8, "channels": (8, 8), "depths": (1, 1), "bins": 41}}
GENIE_BODY = {"dim": 16, "depth": 2, "heads": 2, "mlp": 1.0, "window": 4}
GENIE_TINY = {"codec": {"width": 4}, "levels": 4, "labels": {"count": 12, "length": 3}, "units": 16, "bins": 41}
GENIE_TINY |= {"dynamics": {"backbone": GENIE_BODY | {"steering": "token"}, "steps": 3}}
GENIE_VQ = {"dim": 16, "depth": 1, "heads": 2, "mlp": 16}
GENIE_LAM = {"book": {"codes": 3, "dead": 0.5}, "width": 4, "pixels": 8}
GENIE_LAM |= {"backbone": GENIE_BODY | {"depth": 1, "steering": "none"}}
SETTINGS: dict[str, dict[str, Config]] = {
    "diffusion": {
        "two-hot": Diffusion.Config.model_validate(DIFFUSION_TINY),
        "frames alone": Diffusion.Config.model_validate(
            DIFFUSION_TINY | {"history": 1, "rollout": 0, "windows": 2, "reward": 0, "continues": 0, "patch": 2}
        ),
    },
    "dino_wm": {
        "as published": DinoWM.Config.model_validate(DINO_TINY),
        "steered, rotary": DinoWM.Config.model_validate(
            DINO_TINY | {"actions": "adaln", "positions": "rope", "history": 4, "rollout": 2}
        ),
        "no history, painting": DinoWM.Config.model_validate(DINO_TINY | {"history": 1, "decoder": 2}),
    },
    "jepa": {
        "mlp": JEPA.Config.model_validate(JEPA_TINY),
        "mlp, all terms": JEPA.Config.model_validate(
            JEPA_TINY
            | {"rollout": 4, "detach": True, "std": 1.0, "cov": 1.0, "smooth": 0.1, "inverse": 1.0, "image_size": 8}
        ),
        "transformer": JEPA.Config.model_validate(
            JEPA_TINY | {"predictor": "transformer", "history": 3, "rollout": 5, "dropout": 0.1}
        ),
        "transformer without memory": JEPA.Config.model_validate(JEPA_TINY | {"predictor": "transformer"}),
        "vit, projectors": JEPA.Config.model_validate(
            JEPA_TINY | JEPA_VIT | {"predictor": "transformer", "history": 3, "projector": 16}
        ),
    },
    "dreamer": {
        "reinforce": Dreamer.Config.model_validate(DREAMER_TINY),
        "dynamics": Dreamer.Config.model_validate(DREAMER_V1),
        "own sight, of dreams that rssm draws": Dreamer.Config.model_validate(DREAMER_SIGHT),
        "own sight, diffusion": Dreamer.Config.model_validate(
            DREAMER_SIGHT | {"family": "diffusion", "world": DIFFUSION_TINY}
        ),
    },
    "glp": {
        "both losses": GLP.Config.model_validate(
            GLP_TINY | {"jepa": JEPA_TINY | {"rollout": 4, "std": 1.0, "cov": 1.0, "smooth": 0.1, "inverse": 1.0}}
        ),
        "a jepa": GLP.Config.model_validate(GLP_TINY | {"generative": 0}),
        "a jepa, drawn beside": GLP.Config.model_validate(GLP_TINY | {"generative": 0, "beside": True}),
        "pan": GLP.Config.model_validate(GLP_TINY | {"latent": 0, "reencode": True, "decoder": GLP_WINDOW}),
        "transformer, closed loop": GLP.Config.model_validate(
            GLP_TINY | {"jepa": JEPA_TINY | {"predictor": "transformer", "history": 3}, "reencode": True}
        ),
    },
    "genie": {
        "words of numbers": Genie.Config.model_validate(GENIE_TINY | {"actions": GENIE_LAM}),
        "acting, masked decoder": Genie.Config.model_validate(
            GENIE_TINY
            | {"reward": 0.1, "continues": 0.1, "actions": GENIE_LAM | {"keep": 0.5}}
            | {"dynamics": {"masks": "frame", "backbone": GENIE_BODY | {"steering": "adaln"}, "steps": 3}}
        ),
        "vq, actions added": Genie.Config.model_validate(
            GENIE_TINY
            | {"codec": {"kind": "vq", "width": 4, "steps": 2, "vq": {"book": {"codes": 16}, "body": GENIE_VQ}}}
            | {"actions": GENIE_LAM, "dynamics": {"backbone": GENIE_BODY | {"steering": "none"}, "steps": 3}}
        ),
    },
    "hjepa": {
        "taught along": HJEPA.Config.model_validate({"level1": JEPA_TINY, "above": HJEPA_ABOVE}),
        "transformer below": HJEPA.Config.model_validate(
            {"level1": JEPA_TINY | {"predictor": "transformer", "history": 3}, "above": HJEPA_ABOVE}
        ),
    },
    "rssm": {
        "categorical": RSSM.Config.model_validate(RSSM_TINY),
        "gaussian": RSSM.Config.model_validate(RSSM_TINY | {"latent": "gaussian"}),
    },
    "sequence": {
        kind: SequenceModel.Config.model_validate(SEQUENCE_TINY | {"backbone": BACKBONE_TINY | {"kind": kind}})
        for kind in ("attention", "mamba2", "s4", "s5", "gru")
    }
    | {
        "storm": SequenceModel.Config.model_validate(
            SEQUENCE_TINY
            | {
                "stoch": 16,
                "kernel": 4,
                "image_norm": "batch",
                "decoder": "linear",
                "painted": "latent",
                "judged": "memory",
            }
            | {"backbone": BACKBONE_TINY | {"positions": "learned", "window": 20, "context": 8, "norms": "post"}}
        ),
    },
    "video": {
        "frames of their own noise, acting": Video.Config.model_validate(
            VIDEO_TINY | {"reward": 0.1, "continues": 0.1}
        ),
        "oasis": Video.Config.model_validate(
            VIDEO_TINY
            | {"schedule": "sigmoid", "prediction": "v", "blank": 0.0}
            | {"backbone": VIDEO_BODY | {"places": "rotary", "feeds": "each"}}
        ),
        "sora": Video.Config.model_validate(
            VIDEO_TINY | {"noise": "shared", "blank": 0.0, "backbone": VIDEO_BODY | {"causal": False, "window": 7}}
        ),
        "astra": Video.Config.model_validate(
            VIDEO_TINY
            | {"noise": "history", "experts": 2, "action_dropout": 0.2, "guidance": 1.5}
            | {"backbone": VIDEO_BODY | {"steering": "token"}}
        ),
    },
    "vjepa2_ac": {
        "remembering": VJEPA2AC.Config.model_validate(AC_TINY),
        "as published": VJEPA2AC.Config.model_validate(
            AC_TINY | {"remember": False, "pairing": "vjepa2", "rope_grid": 4}
        ),
    },
    "world_models": {
        "strided": WorldModels.Config.model_validate(WM_TINY | {"image": "strided"}),
        "as published": WorldModels.Config.model_validate(
            WM_TINY | {"image": "paper", "image_size": 64, "depth": 2, "reward": 0, "continues": 0}
        ),
    },
}
MOST = {"mixed", "vector"}  # worlds that ask the most between them; the fast part of the suite asks of no other
PICTURES_ONLY = {"diffusion", "dino_wm", "genie", "vjepa2_ac"}  # families that are nothing without eyes
CASES = [
    pytest.param(family, name, world, id=f"{family}-{name}-{world}", marks=() if world in MOST else pytest.mark.slow)
    for family, all in SETTINGS.items()
    for name in all
    for world in WORLDS
    if (family not in PICTURES_ONLY and "sight" not in name) or WORLDS[world].images()
]


@pytest.mark.parametrize(("family", "name", "world"), CASES)
def test_every_family_keeps_the_contract(family: str, name: str, world: str) -> None:
    config = SETTINGS[family][name]
    check_world_model(lambda spec: MODELS[family](config, spec), WORLDS[world])


def test_the_oracle_keeps_the_contract() -> None:
    spec = Spec({"state": (2,), "layout": (4,)}, 2)
    check_world_model(lambda spec: Oracle(OracleConfig(), spec, Dynamics(size=64, speed=4.0)), spec)


def test_no_family_is_left_out() -> None:
    assert {*SETTINGS, "oracle"} == set(MODELS)
