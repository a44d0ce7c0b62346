"""Private training with and without the mapping: with the same noise, the same model."""

import hashlib
from decimal import Decimal
from functools import partial

import pytest
import torch
from mapped_models import model_and_inputs, with_state
from torch import Tensor, nn

from privacy.accounting import claiming
from privacy.contract import PrivacyTerms
from privacy.noise import SeededNoise
from privacy.training import train
from sml.mapping import Kind, SecureMapping
from sml.model_groups import groups_for

BETA = hashlib.sha512(b"this round").digest()
TERMS = claiming(PrivacyTerms(
    rounds=1, steps=4, sample_rate=Decimal(1), noise_multiplier=Decimal("1"), clip=Decimal("0.5"),
    learning_rate=Decimal("2"), epsilon=None, delta=Decimal("0.00001"), normaliser=20,
))  # fmt: skip


class MappedNoise(SeededNoise):
    """The noise that training without the mapping draws, mapped as the model is."""

    def __init__(self, seed: int, mapping: SecureMapping, model: nn.Module) -> None:
        super().__init__(seed, unsafe_no_dp=True)
        self._mapping, self._parameters = mapping, dict(model.named_parameters())

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        """Of one step, flat; or of several, a row each."""
        rows = super().normal(shape, std).reshape(-1, shape[-1])
        return torch.stack([self._mapped(row) for row in rows]).reshape(shape)

    def _mapped(self, drawn: Tensor) -> Tensor:
        parts = drawn.split([p.numel() for p in self._parameters.values()])
        noise = {
            name: part.view(p.shape)
            for (name, p), part in zip(self._parameters.items(), parts, strict=True)
        }
        return torch.cat([t.flatten() for t in self._mapping.map_state(noise).values()])


def loss(logits: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(
        logits.sum(1), y.to(logits.dtype), reduction="none"
    )


@pytest.mark.parametrize("inputs", [Kind.SIGNED, Kind.DENSE])
@pytest.mark.parametrize("kind", ["linear", "perceptron", "pictures"])
def test_training_with_and_without_the_mapping_agrees(kind: str, inputs: Kind) -> None:
    torch.manual_seed(4)
    model, x = model_and_inputs(kind, patients=20)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    y = (torch.rand(20) > 0.5).float()
    mapping = SecureMapping.derive(BETA, groups_for(model, inputs=inputs), exact=False)
    twin = with_state(model, mapping.map_state(start))
    fit = partial(train, loss=loss, y=y, terms=TERMS)
    fit(model, x=x, noise=SeededNoise(1, unsafe_no_dp=True))
    fit(twin, x=mapping.map_inputs(x), noise=MappedNoise(1, mapping, model))
    unmapped = mapping.unmap_state(twin.state_dict())
    for name, tensor in model.state_dict().items():
        assert float((tensor - start[name]).abs().max()) > 0.02
        torch.testing.assert_close(unmapped[name], tensor, rtol=1e-5, atol=1e-5)


def test_noise_that_is_not_mapped_is_seen() -> None:
    """The comparison can fail: the same draws in another order give another model."""
    torch.manual_seed(4)
    model, x = model_and_inputs("linear", patients=20)
    mapping = SecureMapping.derive(BETA, groups_for(model))
    twin = with_state(model, mapping.map_state(model.state_dict()))
    y = (torch.rand(20) > 0.5).float()
    train(model, loss, x, y, TERMS, SeededNoise(1, unsafe_no_dp=True))
    train(twin, loss, mapping.map_inputs(x), y, TERMS, SeededNoise(1, unsafe_no_dp=True))
    unmapped = mapping.unmap_state(twin.state_dict())
    assert float((unmapped["weight"] - model.state_dict()["weight"]).abs().max()) > 0.01
