"""The trainer: closed form against Opacus, refusals, symmetry, clipping that bounds a patient."""

import copy
import dataclasses
from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_examples import example_terms
from torch import Tensor, nn
from torch.nn import functional

from privacy import closed_form, errors, opacus_training
from privacy.clipping import clip_factors
from privacy.model_checks import unlike
from privacy.noise import SecureNoise, SeededNoise
from privacy.training import train

NO_NOISE = example_terms(noise_multiplier=Decimal(0), epsilon=None, steps=3)


def bce(logits: Tensor, y: Tensor) -> Tensor:
    flat = logits.flatten(1).squeeze(1)
    return functional.binary_cross_entropy_with_logits(flat, y.to(flat.dtype), reduction="none")


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


def data(n: int = 40, d: int = 6, classes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (n,), generator=generator)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 1)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 5, bias=False), nn.ReLU()),
        nn.Linear(5, 3),
    )  # fmt: skip


def frozen_first_layer() -> nn.Module:
    model = mlp()
    next(model.parameters()).requires_grad_(False)
    return model


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("clip", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("make", [linear, mlp, frozen_first_layer])
def test_closed_form_agrees_with_opacus(make: object, clip: float, clipping: str) -> None:
    model = make().double()  # type: ignore[operator]
    loss = bce if make is linear else cross_entropy
    x, y = data(n=130, classes=2 if make is linear else 3)
    assert closed_form.supports(model, x)
    own = closed_form.clipped_sum(model, loss, x, y, clip, clipping)
    wrapped = opacus_training.wrap(copy.deepcopy(model))
    theirs = opacus_training.clipped_sum(wrapped, loss, x, y, clip, clipping)
    for a, b in zip(own, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_step_is_what_the_contract_says() -> None:
    x, y = data()
    model = linear().double()
    before = [p.detach().clone() for p in model.parameters()]
    terms = example_terms(steps=1, learning_rate=Decimal("0.5"), normaliser=64)
    train(model, bce, x, y, terms, SeededNoise(5, unsafe_no_dp=True))
    noise = SeededNoise(5, unsafe_no_dp=True)
    original = linear().double()
    sums = closed_form.clipped_sum(original, bce, x, y, 1.0, "flat")
    drawn = noise.normal((7,), 12.5).split([6, 1])
    for old, new, total, part in zip(before, model.parameters(), sums, drawn, strict=True):
        expected = old - 0.5 / 64 * (total + part.view(old.shape))
        assert torch.allclose(new, expected, rtol=0, atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=9),
    st.floats(1e-3, 1e3),
    st.sampled_from(["flat", "automatic"]),
)
def test_no_patient_counts_for_more_than_the_clip(
    norms: list[float], clip: float, clipping: str
) -> None:
    lengths = torch.tensor(norms, dtype=torch.float64)
    factors = clip_factors(lengths.square(), clip, clipping)
    assert bool((factors * lengths <= clip * (1 + 1e-12)).all())
    if clipping == "flat":
        assert bool((factors <= 1).all())
        assert bool((factors[lengths < clip * 0.999] == 1).all())


def test_a_convolutional_model_trains() -> None:
    torch.manual_seed(1)
    x = torch.randn(80, 1, 8, 8)
    y = (x[:, 0, :4].mean(dim=(1, 2)) > x[:, 0, 4:].mean(dim=(1, 2))).long()
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    before = cross_entropy(model(x), y).mean().item()
    terms = dataclasses.replace(NO_NOISE, steps=15, learning_rate=Decimal(1), normaliser=80)
    train(model, cross_entropy, x, y, terms, SecureNoise())
    assert cross_entropy(model(x), y).mean().item() < before / 2
    assert all(p.dtype == torch.float32 for p in model.parameters())
    noisy = copy.deepcopy(model)
    train(noisy, cross_entropy, x, y, example_terms(), SecureNoise())
    assert not torch.equal(noisy[0].weight, model[0].weight)  # type: ignore[arg-type]


def test_sums_do_not_depend_on_the_chunks_of_opacus(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(n=50, classes=3)
    sums = []
    for chunk in (7, 64):
        monkeypatch.setattr(opacus_training, "_CHUNK", chunk)
        wrapped = opacus_training.wrap(mlp().double())
        sums.append(opacus_training.clipped_sum(wrapped, cross_entropy, x, y, 1.0, "flat"))
    for a, b in zip(*sums, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


class SharedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.last = nn.Linear(6, 6)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))[:, :3]


class UnusedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(6, 3)
        self.unused = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class OwnParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.used = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) * self.scale


REPEATED = nn.Linear(6, 6)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(6, 3), nn.LazyBatchNorm1d()), "BatchNorm1d"),
        (nn.Sequential(nn.InstanceNorm1d(6, track_running_stats=True)), "running statistics"),
        (SharedLayer(), "shared"),
        (UnusedLayer(), "no gradient per patient"),
        (nn.Sequential(REPEATED, nn.Tanh(), REPEATED), "per patient"),
    ],
)
def test_layers_that_cannot_be_bounded_are_refused(model: nn.Module, reason: str) -> None:
    x, y = data(classes=3)
    with pytest.raises(errors.UnsupportedLayer, match=reason):
        train(model, cross_entropy, x.float(), y, NO_NOISE, SecureNoise())


def test_a_parameter_outside_layers_is_bounded_or_refused() -> None:
    x, y = data(classes=3)
    model = OwnParameter()
    try:
        train(model, cross_entropy, x.float(), y, NO_NOISE, SecureNoise())
    except errors.UnsupportedLayer:
        return
    step = float(NO_NOISE.learning_rate * NO_NOISE.steps * NO_NOISE.clip) * len(x) / 100
    assert 0 < float((model.scale.detach() - 1).norm()) <= step


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: cross_entropy(z, y).mean(),
        lambda z, y: cross_entropy(z, y)[:, None],
        lambda z, y: cross_entropy(z - z.mean(dim=0), y),
        lambda z, y: cross_entropy(z.cumsum(dim=0), y),  # each sees those before it only
        lambda z, y: cross_entropy(z, y) * len(y) / (y[:, None] == y).sum(dim=1),  # by class
    ],
)
def test_losses_that_mix_patients_are_refused(loss: closed_form.PerPatientLoss) -> None:
    x, y = data(classes=3)
    order = y.argsort(stable=True)  # as in a table that is sorted by outcome
    with pytest.raises(errors.UnsupportedLayer, match="loss"):
        train(mlp(), loss, x[order].float(), y[order], NO_NOISE, SecureNoise())


class OverPatients(nn.Module):
    """Takes the patients for steps in time; what mixes them is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(6, 6).requires_grad_(False)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.memory(x)[0])


def test_a_model_in_which_patients_follow_each_other_is_refused() -> None:
    x, y = data(classes=3)
    with pytest.raises(errors.UnsupportedLayer, match="mix"):
        train(OverPatients(), cross_entropy, x.float(), y, NO_NOISE, SecureNoise())


def test_patients_of_unlike_labels_are_looked_at() -> None:
    assert unlike(torch.tensor([1, 1, 1, 0, 1]), 3).tolist() == [0, 3, 1]
    assert unlike(torch.tensor([1.0, 1.0]), 4).tolist() == [0, 1]
    assert unlike(torch.tensor([[1, 2], [1, 3]]), 2).tolist() == [0, 1]
    assert unlike(torch.tensor([5]), 4).tolist() == [0]


@pytest.mark.parametrize("where", ["x", "y", "model", "rate"])
def test_values_that_are_not_finite_stop_before_anything_changes(where: str) -> None:
    x, y = data()
    x, labels, model, terms = x.float(), y.double(), linear(), NO_NOISE
    if where == "x":
        x[3, 2] = float("nan")
    elif where == "y":
        labels[0] = float("inf")
    elif where == "model":
        next(model.parameters()).data[0, 0] = float("inf")
    else:
        terms = dataclasses.replace(NO_NOISE, learning_rate=Decimal("1e300"))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(errors.NonFiniteUpdate):
        train(model, bce, x, labels, terms, SecureNoise())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_model_left_in_evaluation_mode_trains_the_same() -> None:
    x, y = data()
    models = [linear().train(), linear().eval()]
    for model in models:
        train(model, bce, x.float(), y, NO_NOISE, SecureNoise())
    assert torch.equal(*(next(model.parameters()) for model in models))
    assert not models[1].training


def test_nobody_to_train_on() -> None:
    x, y = data()
    for rows, labels in ((x[:0], y[:0]), (x, y[:-1])):
        with pytest.raises(errors.CohortTooSmall):
            train(linear(), bce, rows.float(), labels, NO_NOISE, SecureNoise())


def test_one_patient_is_enough_and_terms_are_checked() -> None:
    x, y = data()
    train(linear(), bce, x[:1].float(), y[:1], NO_NOISE, SecureNoise())
    lying = example_terms(noise_multiplier=Decimal("0.1"))
    with pytest.raises(errors.EpsilonOutOfPolicy):
        train(linear(), bce, x.float(), y, lying, SecureNoise())


class MappedNoise:
    """The same noise as seen through the signed permutation of the first layer's inputs."""

    private = False

    def __init__(self, seed: int, q: Tensor, outputs: int) -> None:
        self._source = SeededNoise(seed, unsafe_no_dp=True)
        self._q, self._outputs = q, outputs

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        values = self._source.normal(shape, std)
        first = values[: self._outputs * len(self._q)].view(self._outputs, -1)
        first.copy_(first @ self._q.T)
        return values


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("make", [linear, mlp])
def test_training_commutes_with_a_signed_permutation(make: object, clipping: str) -> None:
    x, y = data(classes=2)
    q = torch.eye(6, dtype=torch.float64)[torch.tensor([3, 1, 5, 0, 2, 4])]
    q = q * torch.tensor([1.0, -1, -1, 1, 1, -1], dtype=torch.float64)[:, None]
    loss = bce if make is linear else cross_entropy
    terms = example_terms(steps=20, rounds=1, noise_multiplier=Decimal(20), clipping=clipping)
    plain = make()  # type: ignore[operator]
    mapped = copy.deepcopy(plain)
    first = mapped if make is linear else mapped[0]
    first.weight.data = (first.weight.data.double() @ q.T).float()
    train(plain, loss, x.float(), y, terms, SeededNoise(9, unsafe_no_dp=True))
    train(mapped, loss, (x @ q.T).float(), y, terms, MappedNoise(9, q, len(first.weight)))
    first.weight.data = (first.weight.data.double() @ q).float()
    for a, b in zip(plain.parameters(), mapped.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
