"""Layers one after the other: the closed form agrees with autograd and Opacus, and bounds."""

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from privacy_examples import example_terms
from test_opacus_training import autograd_sum
from test_training import NO_NOISE, bce, cross_entropy
from torch import Tensor, nn

from privacy import closed_form, errors, layer_gradients, opacus_training
from privacy.noise import SecureNoise, SeededNoise
from privacy.training import clipped_gradient, train

HERE = Path(__file__).parent
SIZE = 11


class Draws:
    """A seed's choices."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def of(self, *values: object) -> object:
        return values[int(torch.randint(0, len(values), (1,), generator=self.generator))]

    def number(self, least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (1,), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)


def random_cnn(draws: Draws, extents: int) -> tuple[nn.Sequential, Tensor]:
    """Two convolutions with all that may stand around them, and an input for it."""
    conv: type[nn.Module] = (nn.Conv1d, nn.Conv2d)[extents - 1]
    pools = (
        (nn.MaxPool1d(2), nn.AvgPool1d(2, ceil_mode=True)),
        (nn.MaxPool2d(2, stride=1), nn.AvgPool2d(2, padding=1)),
    )[extents - 1]
    last = (
        (nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(2)),
        (nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d((2, 1))),
    )[extents - 1]
    x = draws.normal(5, draws.number(1, 2), *[SIZE] * extents)
    layers: list[nn.Module] = []
    channels = x.shape[1]
    for _ in range(2):
        wider = draws.number(1, 4)
        padding = draws.of(0, 1, 2, "same", "valid")
        layers.append(
            conv(
                channels, wider, draws.number(1, 3), padding=padding,
                stride=1 if padding == "same" else draws.number(1, 2),
                dilation=draws.number(1, 2), bias=draws.of(True, False),
            )
        )  # fmt: skip
        norm = draws.of(None, nn.GroupNorm(1, wider), nn.GroupNorm(wider, wider))
        if max(_shape(layers, x)[1:]) == 1:
            norm = None  # torch normalises no single value
        if norm is None and draws.of(True, False):
            norm = nn.LayerNorm(_shape(layers, x)[-draws.number(1, extents + 1) :])
        layers += [layer for layer in (norm, draws.of(nn.ReLU(), nn.Tanh(), None)) if layer]
        if draws.of(True, False) and min(_shape(layers, x)[1:]) >= 3:
            layers.append(draws.of(*pools))
        channels = wider
    layers += [draws.of(*last), nn.Flatten()]
    (width,) = _shape(layers, x)
    if draws.of(True, False):
        layers.append(nn.LayerNorm(width, bias=draws.of(True, False)))
    model = nn.Sequential(*layers, nn.Linear(width, 3, bias=draws.of(True, False))).double()
    for parameter in model.parameters():
        parameter.data = draws.normal(*parameter.shape)
        parameter.requires_grad_(draws.number(0, 4) > 0)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        next(model.parameters()).requires_grad_()
    return model, x


def _shape(layers: list[nn.Module], x: Tensor) -> list[int]:
    """Of one patient's values behind the layers."""
    return list(nn.Sequential(*layers).double()(x[:1]).shape[1:])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("extents", [1, 2])
@pytest.mark.parametrize("seed", range(30))
def test_random_models_have_the_gradients_that_autograd_and_opacus_find(
    seed: int, extents: int
) -> None:
    draws = Draws(seed)
    model, x = random_cnn(draws, extents)
    y = torch.randint(0, 3, (len(x),), generator=draws.generator)
    clip, clipping = (0.05, 1.0, 30.0)[seed % 3], ("flat", "automatic")[seed % 2]
    assert closed_form.supports(model, x)
    own = closed_form.clipped_sum(model, cross_entropy, x, y, clip, clipping, at_once=2)
    expected = [autograd_sum(model, cross_entropy, x, y, clip, clipping)]
    if all(not isinstance(layer, nn.LayerNorm) or layer.bias is not None for layer in model):
        # Opacus fails of a LayerNorm without shift.
        hooked = opacus_training.wrap(copy.deepcopy(model))
        expected.append(opacus_training.clipped_sum(hooked, cross_entropy, x, y, clip, clipping))
    for sums in expected:
        for one, other in zip(own, sums, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def small_cnn() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(8, 8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.GroupNorm(1, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 1),
    )  # fmt: skip


def few_places() -> nn.Sequential:
    """Of 4 places and 24 x 36 weights: their norms are found without their gradients."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(4, 24, 3, stride=2, padding=1),
        nn.Flatten(), nn.Linear(96, 1),
    )  # fmt: skip


def images(n: int, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(n, 1, size, size, generator=generator, dtype=torch.float64)
    return x, (torch.rand(n, generator=generator) > 0.5).double()


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
def test_norms_from_gram_matrices_are_those_of_the_gradients(
    clipping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    tensordot = torch.tensordot

    def watched(*args: object, **options: object) -> Tensor:
        asked.append(1)
        return tensordot(*args, **options)

    monkeypatch.setattr(layer_gradients.torch, "tensordot", watched)
    model, (x, y) = few_places().double(), images(9)
    own = closed_form.clipped_sum(model, bce, x, y, 0.3, clipping)
    assert len(asked) == 1
    for one, other in zip(own, autograd_sum(model, bce, x, y, 0.3, clipping), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("make", [small_cnn, few_places])
def test_a_patient_more_moves_the_sum_by_the_clip_at_most(
    make: Callable[[], nn.Module], clipping: str
) -> None:
    model, (x, y) = make().double(), images(12)
    x = x * torch.logspace(-3, 3, len(x), dtype=torch.float64)[:, None, None, None]
    for clip in (0.01, 1.0):
        whole = closed_form.clipped_sum(model, bce, x, y, clip, clipping, at_once=5)
        for one in range(len(x)):
            rest = torch.arange(len(x)) != one
            without = closed_form.clipped_sum(model, bce, x, y, clip, clipping, rest, at_once=5)
            moved = [(a - b).square().sum() for a, b in zip(whole, without, strict=True)]
            assert float(torch.stack(moved).sum().sqrt()) <= clip * (1 + 1e-9)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_batch_is_summed_alone_and_may_be_empty(count: int) -> None:
    model, (x, y) = small_cnn().double(), images(11)
    chosen = torch.arange(11) < count
    gradient = clipped_gradient(model, bce, x, y, NO_NOISE)
    expected = autograd_sum(model, bce, x[:count], y[:count], 1.0, "flat")
    for one, other in zip(gradient(chosen), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    batch = example_terms(sample_rate=Decimal("0.000001"), noise_multiplier=Decimal(20))
    train(small_cnn(), bce, x.float(), y.float(), batch, SecureNoise())


def test_a_small_cnn_is_trained_without_opacus() -> None:
    """In a process of its own: Opacus would be imported by then in this one."""
    code = (
        "import sys, test_layer_gradients as t\n"
        "t.train(t.small_cnn(), t.bce, *t.images(9), t.NO_NOISE, t.SecureNoise())\n"
        "sys.exit('opacus' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)


def without(*, inplace: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(72, 1))


@pytest.mark.parametrize("layers", [slice(0, 4), slice(1, 4)])
def test_layers_that_overwrite_their_input_train_like_others(layers: slice) -> None:
    """Autograd would differentiate in what the layer made of its input, and Opacus fails."""
    x, y = images(9)
    if layers.start:
        x = x[:, :, :6, :6].reshape(9, 36).repeat(1, 2)
    before = x.clone()
    models = [without(inplace=inplace)[layers] for inplace in (False, True)]
    for model in models:
        train(model, bce, x, y, NO_NOISE, SecureNoise())
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(x, before)
    assert models[1][1 - layers.start].inplace
    assert not closed_form.supports(models[1].double(), x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 2, 3),
        nn.InstanceNorm2d(2, affine=True),
        nn.Dropout(0.5),
        nn.LocalResponseNorm(2),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3)),
        nn.utils.spectral_norm(nn.Conv2d(2, 2, 3)),
        nn.Flatten(0),
        nn.Softmax(0),
    ],
)
def test_what_has_no_rule_is_left_to_opacus(layer: nn.Module) -> None:
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), layer, nn.Flatten(), nn.LazyLinear(1)).double()
    assert not closed_form.supports(model, x)


def test_images_without_a_channel_are_no_channels() -> None:
    """Of three dimensions torch takes the patients for the channels."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(1), nn.Linear(3, 1)).double()
    assert not closed_form.supports(model, torch.randn(4, 5, 5, dtype=torch.float64))


def test_a_rule_that_is_wrong_is_seen_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = images(9)
    model = small_cnn()
    nn.init.zeros_(model[-1].weight)  # nothing before it moves the loss at the start
    windows = layer_gradients.windows
    monkeypatch.setattr(
        layer_gradients, "windows", lambda layer, a, places: windows(layer, a, places).roll(1, 1)
    )
    with pytest.raises(errors.UnsupportedLayer, match="not that of the loss"):
        train(model, bce, x, y, NO_NOISE, SecureNoise())


def test_the_layout_of_images_in_memory_changes_nothing() -> None:
    x, y = images(9)
    x = x.repeat(1, 2, 1, 1)
    torch.manual_seed(1)
    models = [nn.Sequential(nn.Conv2d(2, 1, 1), *small_cnn())]
    models.append(copy.deepcopy(models[0]).to(memory_format=torch.channels_last))
    for model, layout in zip(
        models, (x, x.contiguous(memory_format=torch.channels_last)), strict=True
    ):
        train(model, bce, layout, y, NO_NOISE, SecureNoise())
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_patients_at_once_follow_from_shapes_and_change_no_sum() -> None:
    model, (x, y) = small_cnn().double(), images(50, size=24)
    # The second convolution meets 8 x 3 x 3 values at 10 x 10 places; the first, 3 x 3 at 24 x 24.
    assert closed_form.at_once(model, x) == 2**20 // 7200
    assert closed_form.at_once(model, x) == closed_form.at_once(model, x[:1] * 9)
    sums = [
        closed_form.clipped_sum(model, bce, x, y, 1.0, "flat", at_once=at_once)
        for at_once in (None, 7, 50, 99)
    ]
    for others in sums[1:]:
        for one, other in zip(sums[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_a_device_that_is_not_there_changes_nothing() -> None:
    x, y = images(4)
    model = small_cnn()
    before = copy.deepcopy(model.state_dict())
    for device in ("cuda:99", "cpu:1", "mps", "gpu"):
        with pytest.raises(errors.DeviceMissing):
            train(model, bce, x, y, NO_NOISE, SecureNoise(), device=device)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("rate", ["1", "0.5"])
def test_a_gpu_trains_what_the_cpu_trains(rate: str) -> None:
    x, y = images(40)
    terms = dataclasses.replace(NO_NOISE, sample_rate=Decimal(rate))
    models = [small_cnn(), small_cnn()]
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        train(model, bce, x, y, terms, SeededNoise(3, unsafe_no_dp=True), device=device)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_memory_stays_bounded_with_5000_images() -> None:
    """Of 32 x 32; in a process of its own, whose peak is its own."""
    code = (
        "import resource, test_layer_gradients as t\n"
        "x, y = t.images(5000, size=32)\n"
        "t.train(t.small_cnn(), t.bce, x.float(), y.float(), t.NO_NOISE, t.SecureNoise())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=HERE, capture_output=True, text=True
    )
    assert int(done.stdout) < 600_000  # KB, torch itself and the images included
