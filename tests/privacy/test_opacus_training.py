"""Ghost clipping and hooks: they agree with autograd patient by patient, or refuse."""

import copy
from collections.abc import Callable

import pytest
import torch
from test_training import NO_NOISE, cross_entropy, data
from torch import Tensor, nn
from torch.nn import functional

from privacy import closed_form, errors, model_checks, opacus_training
from privacy.clipping import clip_factors
from privacy.noise import SecureNoise
from privacy.opacus_training import clipped_sum, ghost_sum, prepare, wrap, wrap_ghost
from privacy.training import train


def images(n: int = 9) -> tuple[Tensor, Tensor]:
    x, y = data(n=n, d=64, classes=3)
    return x.view(n, 1, 8, 8), y


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.InstanceNorm2d(4, affine=True), nn.ELU(),
        nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3),
    ).double()  # fmt: skip


def words() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Embedding(10, 4), nn.Conv1d(5, 3, 2), nn.Flatten(), nn.Linear(9, 3)
    ).double()


def autograd_sum(
    model: nn.Module, loss: closed_form.PerPatientLoss, x: Tensor, y: Tensor, clip: float, how: str
) -> list[Tensor]:
    """One patient after the other, by nothing but autograd."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in parameters]
    for i in range(len(x)):
        own = torch.autograd.grad(loss(model(x[i : i + 1]), y[i : i + 1]).sum(), parameters)
        squared = torch.stack([part.square().sum() for part in own]).sum()
        for total, part in zip(sums, own, strict=True):
            total += clip_factors(squared[None], clip, how)[0] * part
    return sums


def frozen() -> nn.Module:
    model = convolutional()
    next(model.parameters()).requires_grad_(False)
    return model


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("make", [convolutional, words, frozen])
def test_ghost_clipping_and_hooks_agree_with_autograd(
    make: Callable[[], nn.Module], clipping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opacus_training, "_CHUNK", 4)
    x, y = images()
    if make is words:
        x = torch.randint(0, 10, (9, 5), generator=torch.Generator().manual_seed(5))
    expected = autograd_sum(make(), cross_entropy, x, y, 0.7, clipping)
    assert opacus_training.supports_ghost(make())
    found = [
        prepare(make(), cross_entropy, x[:1], y[:1])(x, y, 0.7, clipping),
        clipped_sum(wrap(make()), cross_entropy, x, y, 0.7, clipping),
    ]
    for sums in found:
        for a, b in zip(sums, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("of", [wrap, wrap_ghost])
def test_a_batch_of_nobody_sums_to_zero(of: Callable[[nn.Module], nn.Module]) -> None:
    x, y = images()
    model = of(convolutional())
    summed = clipped_sum if of is wrap else ghost_sum
    assert all(not part.any() for part in summed(model, cross_entropy, x[:0], y[:0], 1.0, "flat"))


def random_mlp(generator: torch.Generator) -> tuple[nn.Module, int]:
    def draw(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (1,), generator=generator))

    layers: list[nn.Module] = []
    first = width = draw(1, 12)
    for _ in range(draw(0, 3)):
        wider = draw(1, 10)
        kind = closed_form.ELEMENTWISE[draw(0, len(closed_form.ELEMENTWISE) - 1)]
        layers += [nn.Linear(width, wider, bias=draw(0, 1) == 1), kind()]
        width = wider
    model = nn.Sequential(*layers, nn.Linear(width, 3, bias=draw(0, 3) > 0)).double()
    for parameter in model.parameters():
        shape = parameter.shape
        parameter.data = torch.randn(shape, generator=generator, dtype=torch.float64)
    return model, first


def test_200_random_models_have_the_gradients_that_opacus_finds() -> None:
    generator = torch.Generator().manual_seed(17)
    for number in range(200):
        model, width = random_mlp(generator)
        x = torch.randn(7, width, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 3, (7,), generator=generator)
        clip, clipping = (0.05, 1.0, 30.0)[number % 3], ("flat", "automatic")[number % 2]
        own = closed_form.clipped_sum(model, cross_entropy, x, y, clip, clipping)
        wrapped = wrap(copy.deepcopy(model))
        theirs = clipped_sum(wrapped, cross_entropy, x, y, clip, clipping)
        for a, b in zip(own, theirs, strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-9), model


class Besides(nn.Module):
    """Uses a layer's weights once as the layer does, and once beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        twice: Tensor = self.layer(x) + functional.linear(x, self.layer.weight)
        return twice


class Meets(nn.Module):
    """Normalises each patient by the others, without a layer that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x)
        return z - z.mean(dim=0)


@pytest.mark.parametrize(("model", "reason"), [(Besides(), "outside the layer"), (Meets(), "mix")])
def test_what_no_hook_sees_is_refused(model: nn.Module, reason: str) -> None:
    x, y = data(classes=3)
    with pytest.raises(errors.UnsupportedLayer, match=reason):
        train(model, cross_entropy, x.float(), y, NO_NOISE, SecureNoise())


class ChannelsLast(nn.Module):
    """Hands its images on in another layout, in which Opacus finds other norms."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def test_the_layout_of_images_in_memory_changes_nothing() -> None:
    """Of channels-last images Opacus takes windows from wrong places, but not of one patient."""
    x, y = images()
    x = x.repeat(1, 2, 1, 1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Flatten(),
                          nn.Linear(32, 3)).double()  # fmt: skip
    bent = x.contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with pytest.raises(errors.UnsupportedLayer, match="not know the layer"):
        prepare(copy.deepcopy(model), cross_entropy, bent[:2], y[:2])
    train(model, cross_entropy, x, y, NO_NOISE, SecureNoise())
    train(twin, cross_entropy, bent, y, NO_NOISE, SecureNoise())
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    with pytest.raises(errors.UnsupportedLayer, match="not know the layer"):
        train(nn.Sequential(ChannelsLast(), *model), cross_entropy, x, y, NO_NOISE, SecureNoise())


def test_dropout_gets_the_same_draws_in_the_check() -> None:
    x, y = images()
    model = nn.Sequential(convolutional(), nn.Dropout(0.5)).double()
    assert prepare(model, cross_entropy, x[:2], y[:2])


def silent_head(*before: nn.Module, width: int = 6) -> nn.Module:
    """A model whose last layer is zeros: nothing before it moves the loss at the start."""
    head = nn.Linear(width, 3)
    nn.init.zeros_(head.weight)
    return nn.Sequential(*before, nn.Flatten(), head)


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


class Shared(nn.Module):
    """Divides by how many patients there are."""

    def forward(self, x: Tensor) -> Tensor:
        return x / len(x)


class Remembers(nn.Module):
    """Keeps what it saw of one patient for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + x.detach().mean()
        return x


@pytest.mark.parametrize("layer", [Centred(), Shared(), Remembers()])
def test_where_patients_meet_before_a_layer_of_zeros_is_seen(layer: nn.Module) -> None:
    """A centred batch let one patient move a step by five clips."""
    x, y = data(classes=3)
    with pytest.raises(errors.UnsupportedLayer, match="mix"):
        train(silent_head(layer), cross_entropy, x.float(), y, NO_NOISE, SecureNoise())


def test_a_norm_that_opacus_gets_wrong_before_a_layer_of_zeros_is_seen() -> None:
    x, y = data(classes=3)
    model = silent_head(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular"), width=12
    )
    with pytest.raises(errors.UnsupportedLayer, match="outside the layer"):
        train(model, cross_entropy, x.float(), y, NO_NOISE, SecureNoise())


def test_a_loss_that_is_shared_among_the_patients_there_are_is_refused() -> None:
    x, y = data(classes=3)
    shared = lambda z, y: cross_entropy(z, y) / len(y)  # noqa: E731
    with pytest.raises(errors.UnsupportedLayer, match="mix"):
        train(silent_head(), shared, x.float(), y, NO_NOISE, SecureNoise())


@pytest.mark.parametrize("option", ["max_norm", "scale_grad_by_freq", "padding_idx"])
def test_an_embedding_that_looks_at_who_is_there_is_refused(option: str) -> None:
    """With max_norm a patient's rows are shortened in the model itself: by ten clips, seen here."""
    model = silent_head(nn.Embedding(9, 3, **{option: 1}))
    x, y = torch.tensor([[0, 1]] * 4), torch.zeros(4, dtype=torch.long)
    with pytest.raises(errors.UnsupportedLayer, match=option):
        train(model, cross_entropy, x, y, NO_NOISE, SecureNoise())


def test_checks_leave_the_parameters_as_they_were() -> None:
    model = silent_head()
    before = copy.deepcopy(model.state_dict())
    with model_checks.away_from_start(model):
        assert not torch.equal(model[-1].weight, before["1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
