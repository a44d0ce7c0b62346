"""Mapped models: the same function, the same bits back, garbage under another Q."""

import copy
import hashlib
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sml import vrf
from sml.errors import MappingInvalid
from sml.mapping import (
    INPUT_GROUP,
    MappingGroup,
    SecureMapping,
    SecureMappingLayer,
    SignedPermutation,
    alpha,
    groups_for,
)

BETA = hashlib.sha512(b"this round").digest()
OTHER = hashlib.sha512(b"another round").digest()


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above), activation()]
    return nn.Sequential(*layers[:-1])


def with_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.load_state_dict(state)
    return twin


def distance(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """r = ‖W' Q - W‖ / ‖W‖ over all tensors."""
    gap = sum(float((state[k] - reference[k]).double().square().sum()) for k in reference)
    return float((gap / sum(float(v.double().square().sum()) for v in reference.values())) ** 0.5)


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(
        one[k].numpy().tobytes() == other[k].numpy().tobytes() for k in one
    )


def test_groups_of_a_linear_model() -> None:
    assert groups_for(nn.Linear(13, 1)) == (MappingGroup("input", 13, True, (("weight", 1),)),)


def test_groups_of_a_perceptron() -> None:
    assert groups_for(perceptron(13, 8, 4, 1)) == (
        MappingGroup("input", 13, True, (("0.weight", 1),)),
        MappingGroup("hidden.1", 8, False, (("0.weight", 0), ("0.bias", 0), ("2.weight", 1))),
        MappingGroup("hidden.2", 4, False, (("2.weight", 0), ("2.bias", 0), ("4.weight", 1))),
    )


def test_groups_of_nested_layers_without_bias() -> None:
    model = nn.Sequential(
        nn.Dropout(0.1),
        nn.Sequential(nn.Linear(5, 3, bias=False), nn.Tanh()),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)),
        nn.Softmax(-1),
    )
    assert groups_for(model) == (
        MappingGroup("input", 5, True, (("1.0.weight", 1),)),
        MappingGroup("hidden.1", 3, False, (("1.0.weight", 0), ("2.1.weight", 1))),
    )


SHARED = nn.Linear(3, 3)


class Squared(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).square()


class Residual(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return input + out


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(), "has no linear layer"),
        (nn.ReLU(), "is a ReLU"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), "'0' is a ReLU"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1)), "'1' is a LayerNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.Linear(4, 1)), "'1' is a PReLU"),
        (nn.Sequential(nn.Conv1d(1, 1, 1)), "'0' is a Conv1d"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 1)), "'1' stands before"),
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
    ],
)
def test_other_models_are_refused_with_the_reason(model: nn.Module, reason: str) -> None:
    with pytest.raises(MappingInvalid) as caught:
        groups_for(model)
    assert reason in caught.value.what


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    beta=st.binary(min_size=64, max_size=64),
    seed=st.integers(0, 2**32),
)
def test_map_and_unmap_are_inverse_to_the_bit(
    dtype: torch.dtype, widths: list[int], beta: bytes, seed: int
) -> None:
    torch.manual_seed(seed)
    model = perceptron(*widths).to(dtype)
    state = model.state_dict()
    with torch.no_grad():
        for tensor in state.values():
            tensor[torch.rand_like(tensor) < 0.3] = 0.0
            tensor[torch.rand_like(tensor) < 0.1] = -0.0
    before = copy.deepcopy(state)
    mapping = SecureMapping.derive(beta, groups_for(model))

    mapped = mapping.map_state(state)
    assert same_bits(mapping.unmap_state(mapped), before)
    assert same_bits(mapping.map_state(mapping.unmap_state(state)), before)
    assert same_bits(state, before)
    assert all(mapped[k].dtype == dtype and not mapped[k].requires_grad for k in mapped)
    for name, tensor in mapped.items():
        assert tensor.data_ptr() != state[name].data_ptr()
        assert torch.equal(tensor.abs().flatten().sort()[0], state[name].abs().flatten().sort()[0])


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid])
def test_the_mapped_model_on_mapped_inputs_is_the_same_function(
    activation: type[nn.Module],
) -> None:
    torch.manual_seed(0)
    model = perceptron(30, 64, 32, 3, activation=activation).double()
    mapping = SecureMapping.derive(BETA, groups_for(model))
    twin = with_state(model, mapping.map_state(model.state_dict()))
    x = torch.randn(100, 30, dtype=torch.float64)

    torch.testing.assert_close(twin(mapping.map_inputs(x)), model(x), rtol=1e-12, atol=1e-13)
    in_front = nn.Sequential(mapping.layer(), twin)
    torch.testing.assert_close(in_front(x), model(x), rtol=1e-12, atol=1e-13)
    assert float((twin(x) - model(x)).detach().abs().max()) > 0.01


@pytest.mark.parametrize(
    ("optimiser", "options"),
    [
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
        (torch.optim.Adam, {"lr": 0.01}),
    ],
)
def test_training_mapped_and_un_mapping_is_training(
    optimiser: type[torch.optim.Optimizer], options: dict[str, float]
) -> None:
    torch.manual_seed(1)
    model = perceptron(13, 16, 1, activation=nn.Tanh).double()
    mapping = SecureMapping.derive(BETA, groups_for(model))
    twin = with_state(model, mapping.map_state(model.state_dict()))
    x = torch.randn(200, 13, dtype=torch.float64)
    y = (x[:, :1] > 0).double()
    for trained, inputs in ((model, x), (twin, mapping.map_inputs(x))):
        steps = optimiser(trained.parameters(), **options)  # type: ignore[arg-type]
        for _ in range(50):
            steps.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(trained(inputs), y)
            torch.autograd.backward(loss)
            steps.step()
    assert distance(mapping.unmap_state(twin.state_dict()), model.state_dict()) < 1e-10


def test_a_wrong_q_un_maps_to_garbage() -> None:
    torch.manual_seed(2)
    model = nn.Linear(300, 2, bias=False)
    state = model.state_dict()
    groups = groups_for(model)
    mapped = SecureMapping.derive(BETA, groups).map_state(state)
    assert distance(SecureMapping.derive(BETA, groups).unmap_state(mapped), state) == 0
    wrong = [
        distance(
            SecureMapping.derive(hashlib.sha512(bytes([i])).digest(), groups).unmap_state(mapped),
            state,
        )
        for i in range(50)
    ]
    assert min(wrong) > 1.25
    assert max(wrong) < 1.58
    assert abs(sum(wrong) / len(wrong) - 2**0.5) < 0.03


def test_another_institutions_update_un_maps_to_garbage() -> None:
    """End to end: the copier's own VRF output does not open somebody else's update."""
    torch.manual_seed(3)
    model = perceptron(30, 16, 1)
    groups = groups_for(model)
    names = ("north", "south")
    keys = {name: vrf.generate_secret() for name in names}
    inputs = {n: alpha("ledger", "block", "job", 4, n, "model") for n in names}
    outputs = {
        n: vrf.verify(vrf.public_key(keys[n]), inputs[n], vrf.prove(keys[n], inputs[n]))
        for n in names
    }
    update = SecureMapping.derive(outputs["north"], groups).map_state(model.state_dict())
    right = SecureMapping.derive(outputs["north"], groups).unmap_state(update)
    stolen = SecureMapping.derive(outputs["south"], groups).unmap_state(update)
    assert distance(right, model.state_dict()) == 0
    assert distance(stolen, model.state_dict()) > 1


def test_groups_written_by_hand_reach_convolutions() -> None:
    """Channels are coordinates like any: the input's channels signed, the hidden ones not."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).double()
    groups = (
        MappingGroup(INPUT_GROUP, 3, True, (("0.weight", 1),)),
        MappingGroup("channels.1", 8, False, (("0.weight", 0), ("0.bias", 0), ("2.weight", 1))),
    )
    mapping = SecureMapping.derive(BETA, groups)
    twin = with_state(model, mapping.map_state(model.state_dict()))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(twin(mapping.map_inputs(x, axis=1)), model(x))


def test_the_layer() -> None:
    mapping = SecureMapping.derive(BETA, groups_for(nn.Linear(7, 1)))
    layer = mapping.layer()
    assert isinstance(layer, SecureMappingLayer)
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.equal(layer(x), x @ layer.matrix.T)
    assert torch.equal(layer.matrix @ layer.matrix.T, torch.eye(7, dtype=torch.float64))
    assert layer(x.float()).dtype == torch.float32
    assert layer(x).requires_grad
    assert not layer.state_dict()
    assert not list(layer.parameters())
    assert str(layer) == "SecureMappingLayer(size=7)"


def test_a_mapping_is_a_function_of_output_and_groups() -> None:
    groups = groups_for(perceptron(20, 10, 1))
    one, same, other = (SecureMapping.derive(b, groups) for b in (BETA, BETA, OTHER))
    for name in ("input", "hidden.1"):
        assert (one.permutations[name].matrix == same.permutations[name].matrix).all()
        assert (one.permutations[name].matrix != other.permutations[name].matrix).any()
    assert (one.permutations["hidden.1"].signs == 1).all()
    assert "perm" not in repr(one).replace("permutations", "")


def test_ill_formed_groups_are_refused() -> None:
    for name, size, axes in [
        ("", 3, (("w", 0),)),
        ("a b", 3, (("w", 0),)),
        ("a\n", 3, (("w", 0),)),
        ("a", 0, (("w", 0),)),
        ("a", 3, ()),
        ("a", 3, (("w", -1),)),
    ]:
        with pytest.raises(MappingInvalid):
            MappingGroup(name, size, True, axes)
    one = MappingGroup("a", 3, True, (("w", 0),))
    for groups in [
        (),
        (one, one),
        (one, MappingGroup("a", 3, True, (("w", 1),))),
        (one, MappingGroup("b", 3, True, (("w", 0),))),
        (MappingGroup("b", 3, True, (("w", 0), ("w", 0))),),
    ]:
        with pytest.raises(MappingInvalid):
            SecureMapping.derive(BETA, groups)
    with pytest.raises(MappingInvalid):
        SecureMapping.derive(b"short", (one,))


def test_tensors_that_do_not_fit_are_refused() -> None:
    mapping = SecureMapping.derive(BETA, (MappingGroup("a", 3, True, (("w", 1),)),))
    states: list[dict[str, Tensor]] = [
        {},
        {"v": torch.zeros(2, 3)},
        {"w": torch.zeros(3)},
        {"w": torch.zeros(3, 2)},
        {"w": torch.zeros(2, 3, dtype=torch.int32)},
    ]
    for state in states:
        with pytest.raises(MappingInvalid):
            mapping.map_state(state)
        with pytest.raises(MappingInvalid):
            mapping.unmap_state(state)
    with pytest.raises(MappingInvalid):
        mapping.map_inputs(torch.zeros(2, 3))
    with pytest.raises(MappingInvalid):
        mapping.layer()


def test_vrf_and_alpha_load_without_torch() -> None:
    code = "import sys, sml.vrf, sml.alpha; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_speed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model = perceptron(1000, 512, 256, 1)
    groups = groups_for(model)
    start = time.perf_counter()
    mapping = SecureMapping.derive(BETA, groups)
    derived = time.perf_counter()
    mapped = mapping.map_state(model.state_dict())
    there = time.perf_counter()
    mapping.unmap_state(mapped)
    back = time.perf_counter()
    SignedPermutation.draw(BETA, "input", 100_000, signed=True)
    large = time.perf_counter()
    with capsys.disabled():
        print(
            f"\n  mapping, 1000-512-256-1: derive {1e3 * (derived - start):.1f} ms, "
            f"map {1e3 * (there - derived):.1f} ms, un-map {1e3 * (back - there):.1f} ms; "
            f"draw of 100,000 coordinates {1e3 * (large - back):.0f} ms"
        )
