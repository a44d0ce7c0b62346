"""Mapped models: the same function, the same bits back, garbage under another Q."""

import copy
import hashlib
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_models import MODELS, model_and_inputs, perceptron, same_bits, with_state
from torch import Tensor, nn

from sml import vrf
from sml.errors import MappingInvalid
from sml.layer import SecureMappingLayer
from sml.mapping import (
    Axis,
    Kind,
    MappingGroup,
    SecureMapping,
    SignedPermutation,
    alpha,
)
from sml.model_groups import groups_for

BETA = hashlib.sha512(b"this round").digest()
OTHER = hashlib.sha512(b"another round").digest()


def distance(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """r = ‖W' Q - W‖ / ‖W‖ over all tensors."""
    gap = sum(float((state[k] - reference[k]).double().square().sum()) for k in reference)
    return float((gap / sum(float(v.double().square().sum()) for v in reference.values())) ** 0.5)


def bent(tensor: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """The same values in another dtype and other strides, some of them zeros of either sign."""
    with torch.no_grad():
        bent = tensor.detach().clone()
        bent[torch.rand_like(bent) < 0.3] = 0.0
        bent[torch.rand_like(bent) < 0.1] = -0.0
        if bent.ndim > 1 and channels_last:
            bent = bent.movedim(1, -1).contiguous().movedim(-1, 1)
        return bent.to(dtype)


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(MODELS),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    channels_last=st.booleans(),
    beta=st.binary(min_size=64, max_size=64),
    seed=st.integers(0, 2**32),
)
def test_map_and_unmap_are_inverse_to_the_bit(
    kind: str, dtype: torch.dtype, channels_last: bool, beta: bytes, seed: int
) -> None:
    torch.manual_seed(seed)
    model, _ = model_and_inputs(kind)
    state = {k: bent(t, dtype, channels_last) for k, t in model.state_dict().items()}
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
    if dtype is not torch.bfloat16:  # which numpy has not
        arrays = mapping.map_state({name: tensor.numpy() for name, tensor in state.items()})
        assert same_bits({name: torch.from_numpy(a) for name, a in arrays.items()}, mapped)


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(MODELS),
    beta=st.binary(min_size=64, max_size=64),
    seed=st.integers(0, 2**32),
)
def test_a_dense_map_comes_back_to_rounding(kind: str, beta: bytes, seed: int) -> None:
    torch.manual_seed(seed)
    model, _ = model_and_inputs(kind)
    mapping = SecureMapping.derive(beta, groups_for(model, inputs=Kind.DENSE), exact=False)
    mapped = mapping.map_state(model.state_dict())
    for name, tensor in mapping.unmap_state(mapped).items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=1e-6)
    first = next(iter(mapped))
    assert float((mapped[first] - model.state_dict()[first]).abs().max()) > 1e-3


def test_a_dense_map_is_refused_where_a_hash_follows() -> None:
    groups = groups_for(nn.Linear(3, 1), inputs=Kind.DENSE)
    with pytest.raises(MappingInvalid, match="its hash"):
        SecureMapping.derive(BETA, groups)
    assert SecureMapping.derive(BETA, groups, exact=False)


@pytest.mark.parametrize("inputs", [Kind.SIGNED, Kind.DENSE])
@pytest.mark.parametrize("kind", MODELS)
def test_the_mapped_model_on_mapped_inputs_is_the_same_function(kind: str, inputs: Kind) -> None:
    torch.manual_seed(0)
    model, x = model_and_inputs(kind)
    model, x = model.double(), x.double()
    mapping = SecureMapping.derive(BETA, groups_for(model, inputs=inputs), exact=False)
    twin = with_state(model, mapping.map_state(model.state_dict()))

    torch.testing.assert_close(twin(mapping.map_inputs(x)), model(x), rtol=1e-9, atol=1e-12)
    in_front = nn.Sequential(mapping.layer(), twin)
    torch.testing.assert_close(in_front(x), model(x), rtol=1e-9, atol=1e-12)
    assert float((twin(x) - model(x)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Mish, nn.ELU])
def test_hidden_units_may_be_permuted_before_any_activation(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = perceptron(30, 64, 32, 3, activation=activation).double()
    mapping = SecureMapping.derive(BETA, groups_for(model))
    twin = with_state(model, mapping.map_state(model.state_dict()))
    x = torch.randn(20, 30, dtype=torch.float64)
    torch.testing.assert_close(twin(mapping.map_inputs(x)), model(x), rtol=1e-12, atol=1e-13)


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
    assert str(layer) == "SecureMappingLayer(size=7, axis=-1)"


def test_the_layer_stands_before_channels_too() -> None:
    model = nn.Conv2d(3, 1, 2)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for inputs in (Kind.SIGNED, Kind.DENSE):
        mapping = SecureMapping.derive(BETA, groups_for(model, inputs=inputs), exact=False)
        layer = mapping.layer()
        expected = torch.einsum("ij,njhw->nihw", layer.matrix, x)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
        assert layer(x).is_contiguous()
        assert str(layer) == "SecureMappingLayer(size=3, axis=-3)"


def test_a_mapping_is_a_function_of_output_and_groups() -> None:
    groups = groups_for(perceptron(20, 10, 1))
    one, same, other = (SecureMapping.derive(b, groups) for b in (BETA, BETA, OTHER))
    for name in ("input", "hidden.1"):
        assert (one.maps[name].matrix == same.maps[name].matrix).all()
        assert (one.maps[name].matrix != other.maps[name].matrix).any()
    hidden = one.maps["hidden.1"]
    assert isinstance(hidden, SignedPermutation)
    assert (hidden.signs == 1).all()
    assert "maps" not in repr(one)


def group(name: str, *axes: Axis, size: int = 3) -> MappingGroup:
    return MappingGroup(name, size, Kind.SIGNED, axes)


def test_ill_formed_groups_are_refused() -> None:
    for name, size, axes in [
        ("", 3, (Axis("w", 0),)),
        ("a b", 3, (Axis("w", 0),)),
        ("a\n", 3, (Axis("w", 0),)),
        ("a", 0, (Axis("w", 0),)),
        ("a", 3, ()),
        ("a", 3, (Axis("w", -1),)),
        ("a", 3, (Axis("w", 0, 0),)),
    ]:
        with pytest.raises(MappingInvalid):
            MappingGroup(name, size, Kind.SIGNED, axes)
    with pytest.raises(MappingInvalid):
        MappingGroup("a", 3, Kind.SIGNED, (Axis("w", 0),), 0)
    one = group("a", Axis("w", 0))
    for groups in [
        (),
        (one, one),
        (one, group("a", Axis("w", 1))),
        (one, group("b", Axis("w", 0))),
        (one, group("b", Axis("w", 0, 2))),
        (group("b", Axis("w", 0), Axis("w", 0)),),
    ]:
        with pytest.raises(MappingInvalid):
            SecureMapping.derive(BETA, groups)
    with pytest.raises(MappingInvalid):
        SecureMapping.derive(b"short", (one,))


def test_tensors_that_do_not_fit_are_refused() -> None:
    mapping = SecureMapping.derive(BETA, (group("a", Axis("w", 1)), group("b", Axis("v", 0, 2))))
    v = torch.zeros(6)
    states: list[dict[str, Tensor]] = [
        {},
        {"v": v},
        {"w": torch.zeros(3), "v": v},
        {"w": torch.zeros(3, 2), "v": v},
        {"w": torch.zeros(2, 3, dtype=torch.int32), "v": v},
        {"w": torch.zeros(2, 3), "v": torch.zeros(7)},
        {"w": torch.zeros(2, 3), "v": torch.zeros(())},
    ]
    assert mapping.map_state({"w": torch.zeros(2, 3), "v": v})
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
