"""Which groups a model has, which models are refused, and groups that a model declares itself."""

from typing import Any

import pytest
import torch
from mapped_models import perceptron, pictures_network, signals_network
from torch import Tensor, nn

from sml.errors import MappingInvalid
from sml.mapping import Axis, Kind, MappingGroup
from sml.model_groups import groups_for

PERMUTATION, SIGNED, DENSE = Kind.PERMUTATION, Kind.SIGNED, Kind.DENSE


def hidden(place: int, size: int, *axes: Axis) -> MappingGroup:
    return MappingGroup(f"hidden.{place}", size, PERMUTATION, axes)


def test_groups_of_a_linear_model() -> None:
    assert groups_for(nn.Linear(13, 1)) == (
        MappingGroup("input", 13, SIGNED, (Axis("weight", 1),)),
    )
    assert groups_for(nn.Linear(13, 1), inputs=DENSE)[0].kind is DENSE


def test_groups_of_a_perceptron() -> None:
    assert groups_for(perceptron(13, 8, 4, 1)) == (
        MappingGroup("input", 13, SIGNED, (Axis("0.weight", 1),)),
        hidden(1, 8, Axis("0.weight", 0), Axis("0.bias", 0), Axis("2.weight", 1)),
        hidden(2, 4, Axis("2.weight", 0), Axis("2.bias", 0), Axis("4.weight", 1)),
    )


def test_groups_of_nested_layers_without_bias() -> None:
    model = nn.Sequential(
        nn.Dropout(0.1),
        nn.Sequential(nn.Linear(5, 3, bias=False), nn.Tanh()),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)),
        nn.Softmax(-1),
        nn.Flatten(0),
    )
    assert groups_for(model) == (
        MappingGroup("input", 5, SIGNED, (Axis("1.0.weight", 1),)),
        hidden(1, 3, Axis("1.0.weight", 0), Axis("2.1.weight", 1)),
    )


def test_groups_of_convolutional_networks() -> None:
    assert groups_for(signals_network()) == (
        MappingGroup("input", 2, SIGNED, (Axis("0.weight", 1),), -2),
        hidden(
            1, 5, Axis("0.weight", 0), Axis("0.bias", 0), Axis("1.weight", 0), Axis("1.bias", 0),
            Axis("6.weight", 1, 4),
        ),
    )  # fmt: skip
    inputs, first, second, third = groups_for(pictures_network())
    assert (inputs.size, inputs.input_axis) == (3, -3)
    assert first.axes[-1] == Axis("4.0.weight", 1)
    assert Axis("1.weight", 0) in first.axes
    assert second.axes == (
        Axis("4.0.weight", 0), Axis("4.1.weight", 0), Axis("4.1.bias", 0), Axis("6.weight", 0),
        Axis("6.bias", 0), Axis("7.weight", 1),
    )  # fmt: skip
    assert Axis("8.weight", 0) in third.axes


SHARED = nn.Linear(3, 3)


class Squared(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).square()


class Residual(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return input + out


def conv(*between: nn.Module, last: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *between, last or nn.Conv2d(4, 2, 1))


def linear(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), *between, nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(), "has no linear layer"),
        (nn.ReLU(), "is a ReLU before the first layer"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), "'0' is a ReLU"),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 1)), "'0' flattens the inputs"),
        (nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 1)), "'0' is a LayerNorm before"),
        (linear(nn.PReLU(4)), "'1' is a PReLU"),
        (linear(nn.BatchNorm1d(4)), "'1' is a BatchNorm1d"),
        (linear(nn.Softmax(-1)), "'1' stands before"),
        (linear(nn.LayerNorm([2, 4])), "'1' normalises over more than one patient"),
        (linear(nn.LayerNorm(3)), "'1' takes 3 units, not 4"),
        (linear(nn.GroupNorm(2, 4)), "'1' normalises groups of units"),
        (linear(nn.MaxPool1d(2)), "'1' is a MaxPool1d where no channels"),
        (linear(nn.Unflatten(1, (4, 1))), "'1' is a Unflatten"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 1)), "'2' takes 4 units, not 3"),
        (nn.Sequential(SHARED, nn.ReLU(), SHARED), "shares a parameter"),
        (nn.Sequential(Squared(3, 1)), "'0' is a Squared"),
        (Residual(nn.Linear(3, 3)), "is a Residual"),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3))), "re-parametrised"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))),
            "re-parametrised",
        ),
        (nn.TransformerEncoderLayer(8, 2, 8), "is a TransformerEncoderLayer"),
        (conv(last=nn.Conv2d(4, 4, 1, groups=4)), "'1' convolves 4 groups of channels apart"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "'0' convolves 2 groups"),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 1)), "'0' is a ConvTranspose2d"),
        (conv(nn.GroupNorm(2, 4)), "'1' normalises 2 groups of channels apart"),
        (conv(nn.BatchNorm2d(4)), "'1' is a BatchNorm2d"),
        (conv(nn.MaxPool1d(2)), "'1' is a MaxPool1d where no channels"),
        (conv(nn.MaxPool2d(2, return_indices=True)), "'1' is a MaxPool2d where no channels"),
        (conv(nn.LocalResponseNorm(2)), "'1' is a LocalResponseNorm"),
        (conv(last=nn.Linear(4, 1)), "'1' acts along another axis"),
        (conv(nn.Flatten(), last=nn.Linear(9, 1)), "'2' takes 9 units, no multiple of 4"),
        (conv(nn.Flatten(2), last=nn.Linear(4, 1)), "'1' stands before"),
        (
            conv(nn.Flatten(), nn.LayerNorm(16), last=nn.Linear(8, 1)),
            "'3' takes 8 units, not 16",
        ),
        (conv(last=nn.Conv2d(8, 4, 1)), "'1' takes 8 units, not 4"),
        (nn.Sequential(nn.Linear(4, 3), nn.Conv1d(3, 1, 1)), "'1' acts along another axis"),
    ],
)
def test_other_models_are_refused_with_the_reason(model: nn.Module, reason: str) -> None:
    with pytest.raises(MappingInvalid) as caught:
        groups_for(model)
    assert reason in caught.value.what


def test_no_dense_map_goes_with_dropout_of_inputs() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Linear(3, 1))
    assert groups_for(model)
    with pytest.raises(MappingInvalid, match="'0' is dropout"):
        groups_for(model, inputs=DENSE)


# groups that a model declares


class Skipping(nn.Module):
    """x -> last(h + second(silu(h))) of h = first(x): two layers share one space."""

    def __init__(self, groups: Any = None, pictures: bool = False) -> None:
        super().__init__()
        layer: Any = (lambda i, o: nn.Conv2d(i, o, 1)) if pictures else nn.Linear
        self.first, self.second, self.last = layer(3, 4), layer(4, 4), layer(4, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)  # a check on these weights would show nothing
        self.mapping_groups = groups

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out: Tensor = self.last(h + self.second(nn.functional.silu(h)))
        return out


INPUT = MappingGroup("input", 3, SIGNED, (Axis("first.weight", 1),))
SHARED_AXES = (
    Axis("first.weight", 0), Axis("first.bias", 0), Axis("second.weight", 1),
    Axis("second.weight", 0), Axis("second.bias", 0), Axis("last.weight", 1),
)  # fmt: skip
SKIPPED = MappingGroup("skipped", 4, PERMUTATION, SHARED_AXES)


def test_a_model_may_declare_its_groups_as_attribute_or_method() -> None:
    model = Skipping((INPUT, SKIPPED))
    assert groups_for(Skipping(lambda: [INPUT, SKIPPED])) == (INPUT, SKIPPED)
    before = torch.random.get_rng_state()
    assert groups_for(model) == (INPUT, SKIPPED)
    assert groups_for(model, inputs=DENSE)[0].kind is DENSE
    assert not any(bool(parameter.any()) for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_declared_groups_of_pictures_need_an_example() -> None:
    groups = (MappingGroup("input", 3, SIGNED, INPUT.axes, -3), SKIPPED)
    model = Skipping(groups, pictures=True)
    assert groups_for(model, example=torch.zeros(2, 3, 4, 4)) == groups
    with pytest.raises(MappingInvalid, match="no example"):
        groups_for(model)
    with pytest.raises(MappingInvalid, match="does not take"):
        groups_for(model, example=torch.zeros(2, 3, 4, 4, 4, 4))


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ((), "no mapping groups"),
        ((SKIPPED,), 'no group "input"'),
        ((INPUT, "skipped"), "something else than mapping groups"),
        ((INPUT, MappingGroup("a", 4, SIGNED, SHARED_AXES)), "when group 'a'"),
        ((INPUT, MappingGroup("a", 4, DENSE, SHARED_AXES)), "when group 'a'"),
        *[
            ((INPUT, MappingGroup("a", 4, PERMUTATION, SHARED_AXES[:i] + SHARED_AXES[i + 1 :])),
             "when group 'a'")
            for i in range(len(SHARED_AXES))
        ],
        ((MappingGroup("input", 3, SIGNED, (Axis("second.weight", 1),)),), "no 3 entries"),
        ((MappingGroup("input", 3, SIGNED, (Axis("third.weight", 1),)),), "no tensor"),
        ((MappingGroup("input", 4, SIGNED, (Axis("second.weight", 1),)),), "does not take"),
        ((INPUT, MappingGroup("a", 2, PERMUTATION, (Axis("last.weight", 1, 2),))), "when group"),
        ((INPUT, SKIPPED, MappingGroup("a", 4, PERMUTATION, SHARED_AXES[:1])), "share a name or a"),
    ],
)  # fmt: skip
def test_declared_groups_that_do_not_hold_are_refused(groups: Any, reason: str) -> None:
    with pytest.raises(MappingInvalid) as caught:
        groups_for(Skipping(groups))
    assert reason in caught.value.what


def test_a_model_that_says_nothing_of_its_inputs_is_refused() -> None:
    class Constant(Skipping):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(0 * x)

    with pytest.raises(MappingInvalid, match="all the same"):
        groups_for(Constant((INPUT, SKIPPED)))
