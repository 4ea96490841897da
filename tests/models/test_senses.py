"""The senses of STORM and of DRAMA as settings: the same layers, the same functions, the same numbers of parameters."""

from itertools import chain, pairwise

import pytest
import torch
from torch import nn

from innerworld.models.rssm import RSSM
from innerworld.models.rssm_config import RSSMConfig
from innerworld.models.senses import Decoder, Encoder, SensesConfig
from innerworld.models.sequence import SequenceModel
from innerworld.models.standard import VectorScale
from innerworld.nn.sensors import symlog
from innerworld.types import Clip, Obs, Spec

LATENT = 32 * 32
ATARI = Spec({"pixels": (64, 64, 3)}, 6, discrete=True)
STORM, DRAMA = SequenceModel.presets["storm"], SequenceModel.presets["drama"]
SMALL = {"depth": 2, "mults": (1, 2)}
TINY = Spec({"pixels": (16, 16, 3)}, 2)


def storm_encoder() -> nn.Sequential:
    """weipu-zhang/STORM: kernel 4, stride 2, zeros around of 1, no bias."""
    channels = pairwise([3, 32, 64, 128, 256])
    stages = [(nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in channels]
    return nn.Sequential(*chain(*stages), nn.Flatten())


def storm_decoder() -> nn.Sequential:
    channels = pairwise([256, 128, 64, 32])
    stages = [(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in channels]
    start = nn.Linear(LATENT, 4096, bias=False), nn.Unflatten(1, (256, 4, 4)), nn.BatchNorm2d(256), nn.ReLU()
    return nn.Sequential(*start, *chain(*stages), nn.ConvTranspose2d(32, 3, 4, 2, 1))


def drama_encoder() -> nn.Sequential:
    """realwenlongwang/drama, config_files/train.yaml: kernel 5, the first stage has a stride of 1."""
    channels = zip(pairwise([3, 16, 32, 48, 64, 64]), [1, 2, 2, 2, 2], strict=True)
    stages = [(nn.Conv2d(i, o, 5, stride, 2), nn.BatchNorm2d(o), nn.SiLU()) for (i, o), stride in channels]
    return nn.Sequential(*chain(*stages), nn.Flatten())


def drama_decoder() -> nn.Sequential:
    channels = pairwise([64, 64, 48, 32, 16])
    stages = [(nn.ConvTranspose2d(i, o, 5, 2, 2, 1), nn.BatchNorm2d(o), nn.SiLU()) for i, o in channels]
    start = nn.Linear(LATENT, 1024), nn.Unflatten(1, (64, 4, 4)), nn.BatchNorm2d(64), nn.SiLU()
    return nn.Sequential(*start, *chain(*stages), nn.ConvTranspose2d(16, 3, 5, 1, 2), nn.Sigmoid())


PAPERS = [
    pytest.param(STORM, storm_encoder, storm_decoder, 690_624, 4_884_931, id="storm"),
    pytest.param(DRAMA, drama_encoder, drama_decoder, 232_272, 1_281_811, id="drama"),
]


@pytest.mark.parametrize(("config", "encoder", "decoder", "eyes", "brush"), PAPERS)
def test_parameters_are_the_papers(config, encoder, decoder, eyes, brush):
    """Of the encoder, and of a decoder that reads the latent alone."""
    assert _count(encoder()) == eyes and _count(decoder()) == brush
    assert _count(Encoder(config, ATARI, [])) == eyes
    assert _count(Decoder(config, ATARI, 0, LATENT, 8)) == brush


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("config", "encoder", "decoder", "eyes", "brush"), PAPERS)
def test_functions_are_the_papers(config, encoder, decoder, eyes, brush, training):
    torch.manual_seed(0)
    ours, theirs = Encoder(config, ATARI, []).train(training), encoder().train(training)
    _copy(theirs, ours)
    picture = torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    tokens, _ = ours({"pixels": picture})
    expected = theirs(picture.flatten(0, 1).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(tokens.flatten(0, 1), expected, rtol=1e-4, atol=1e-4)
    _same_buffers(theirs, ours)
    back, brush = Decoder(config, ATARI, 0, LATENT, 8).train(training), decoder().train(training)
    in_order = nn.ModuleList([back.map, back.conv])
    _copy(brush, in_order)
    latent = torch.randn(3, LATENT)
    painted = back._pictures(latent[:, :0], latent)["pixels"]
    torch.testing.assert_close(painted, brush(latent), rtol=1e-4, atol=1e-4)
    _same_buffers(brush, in_order)


def test_batch_norm_is_over_all_frames_and_for_a_single_one_what_was_learnt():
    torch.manual_seed(0)
    encoder = Encoder(DRAMA.model_copy(update=SMALL), TINY, [])
    pictures = torch.randint(0, 256, (4, 3, 16, 16, 3), dtype=torch.uint8)
    encoder({"pixels": pictures})
    norm = encoder.conv.stages[1]
    assert isinstance(norm, nn.BatchNorm2d)
    seen = encoder.conv.stages[0](pictures.flatten(0, 1).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean((0, 2, 3)))
    encoder.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    together, alone = encoder({"pixels": pictures})[0], encoder({"pixels": pictures[:1, :1]})[0]
    torch.testing.assert_close(alone, together[:1, :1])
    torch.testing.assert_close(dict(encoder.state_dict()), before)


def test_batch_norms_are_those_that_see_the_batch_of_all_processes():
    """`norms_of_all` knows torch's own."""
    parts = Encoder(STORM, ATARI, []), Decoder(STORM, ATARI, 0, LATENT, 8)
    assert [sum(type(layer) is nn.BatchNorm2d for layer in part.modules()) for part in parts] == [4, 4]


@pytest.mark.parametrize("kind", ["maps", "linear", "dense"])
@pytest.mark.parametrize("deter", [0, 8])
def test_a_decoder_reads_what_it_is_given(deter, kind):
    update = SMALL | {"decoder": kind, "kernels": (6, 6), "image_stem": False, "units": 4}
    decoder = Decoder(DRAMA.model_copy(update=update), TINY, deter, 4, 2)
    feat = torch.randn(5, deter + 4, requires_grad=True)
    decoder.losses(feat[None, :, :deter], feat[None], {"pixels": torch.rand(1, 5, 3, 16, 16)})["pixels"].backward()
    assert feat.grad is not None and bool((feat.grad.abs().sum(0) > 0).all())


def test_images_have_a_norm_of_their_own_or_that_of_all_layers():
    for image_norm, norms in (("same", ["RMSNorm"] * 4), ("none", []), ("batch", ["BatchNorm2d"] * 4)):
        config = DRAMA.model_copy(update=SMALL | {"image_norm": image_norm, "norm": "rms"})
        parts = nn.ModuleList([Encoder(config, TINY, []), Decoder(config, TINY, 0, 4, 2)])
        kinds = [type(layer).__name__ for layer in parts.modules()]
        assert [kind for kind in kinds if kind in ("RMSNorm", "BatchNorm2d")] == norms


ARM = Spec({"joint.angle": (2,), "pixels": (16, 16, 3), "joint.speed": (3,)}, 2)


def readings(b: int = 50, t: int = 4) -> Obs:
    """Two vectors of very different sizes, one number of which is constant."""
    torch.manual_seed(0)
    angle = torch.randn(b, t + 1, 2) * torch.tensor([1e-3, 20.0]) + torch.tensor([0.0, -300.0])
    speed = torch.randn(b, t + 1, 3) * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([2.0, 0.0, 9.81])
    pictures = torch.randint(0, 256, (b, t + 1, 16, 16, 3), dtype=torch.uint8)
    return {"joint.angle": angle, "pixels": pictures, "joint.speed": speed}


@pytest.mark.parametrize("pressed", [False, True])
@pytest.mark.parametrize("standardise", [False, True])
def test_vectors_are_standardised_then_pressed_and_come_back(standardise: bool, pressed: bool):
    scale, obs = VectorScale(ARM, standardise, pressed), readings()
    scale.see(obs)
    for name in ARM.vectors():
        rows = obs[name]
        expected = rows
        if standardise:
            deviation = rows.std((0, 1), correction=0)
            expected = (rows - rows.mean((0, 1))) / torch.where(deviation > 1e-4, deviation, 1.0)
        expected = symlog(expected) if pressed else expected
        told = scale.squeezed(name, rows)
        torch.testing.assert_close(told, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scale.stretched(name, told), rows, rtol=1e-4, atol=1e-4)
    assert (len(scale.state_dict()) == 0) == (not standardise)


def test_each_sensor_has_a_standard_of_its_own_and_pictures_none():
    scale, obs = VectorScale(ARM, standardise=True, symlog=True), readings()
    scale.see(obs)
    means = [value for name, value in scale.state_dict().items() if name.endswith("mean")]
    assert len(means) == 2
    for mean, name in zip(means, ARM.vectors(), strict=True):
        torch.testing.assert_close(mean, obs[name].mean((0, 1)), rtol=1e-4, atol=1e-4)
    blind = VectorScale(TINY, standardise=True, symlog=True)
    blind.see({"pixels": obs["pixels"]})
    assert not blind.state_dict()


def test_only_training_teaches_the_standard_and_what_is_decoded_has_the_worlds_units():
    small = {"depth": 2, "mults": (1, 2), "kernel": 4, "image": "strided", "units": 8, "layers": 1}
    tiny = {"deter": 8, "hidden": 8, "blocks": 2, "stoch": 2, "classes": 2}
    config = RSSMConfig.model_validate(small | tiny | {"standardise": True, "symlog": False})
    model, other = RSSM(config, ARM), RSSM(config, ARM)
    obs, (b, t) = readings(), (50, 4)
    clip = Clip(obs, torch.zeros(b, t, 2), torch.zeros(b, t), torch.zeros(b, t, dtype=torch.bool))
    model.loss(clip)
    counts = [value for name, value in model.state_dict().items() if name.endswith("count")]
    assert [int(count) for count in counts] == [b * (t + 1)] * 2
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(clip)
    told = model.decode(model.encode(clip.at(0)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name in ARM.vectors():  # untaught it tells about the mean, to a few deviations
        spread = obs[name].std((0, 1), correction=0)
        away = (told[name] - obs[name].mean((0, 1))).abs().amax(0)
        assert bool((away < 5 * torch.where(spread > 1e-4, spread, 1.0)).all())
    other.load_state_dict(before)
    again = other.eval().decode(other.encode(clip.at(0)))
    assert all(torch.equal(value, again[name]) for name, value in told.items())


@pytest.mark.parametrize("standardise", [False, True])
def test_vectors_are_compared_as_they_are_seen(standardise: bool):
    """Two states whose vectors lie one deviation apart are 1 away in standard numbers, else as far as the numbers."""
    config = SensesConfig(standardise=standardise, symlog=False, units=4, layers=1)
    spec, obs = Spec({"joint.angle": (2,)}, 2), readings()
    encoder, decoder = Encoder(config, spec, []), Decoder(config, spec, 0, 2, 1)
    encoder.scale.see(obs)
    decoder.mlp = nn.Identity()  # pyright: ignore   what it is given is what it tells
    a, b = obs["joint.angle"][0, :2], obs["joint.angle"].std((0, 1), correction=0)
    feat = encoder.scale.squeezed("joint.angle", torch.stack([a[0], a[0] + b]))
    place = decoder.place(feat[:, :0], feat)
    assert (place[1] - place[0]).tolist() == pytest.approx([1, 1] if standardise else b.tolist(), rel=1e-2)
    torch.testing.assert_close(decoder.sensors(feat[:, :0], feat, encoder.scale)["joint.angle"][1], a[0] + b)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Parameters in the order of the layers; what normalises is made to matter."""
    with torch.no_grad():
        for there, here in zip(source.parameters(), target.parameters(), strict=True):
            assert there.shape == here.shape
            there.add_(0.1 * torch.randn_like(there))
            here.copy_(there)


def _same_buffers(theirs: nn.Module, ours: nn.Module) -> None:
    """The running statistics of the norms, in the order of the layers."""
    norms = [[layer for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)] for part in (theirs, ours)]
    for there, here in zip(*norms, strict=True):
        torch.testing.assert_close(dict(here.named_buffers()), dict(there.named_buffers()), rtol=1e-4, atol=1e-5)
