"""The image task: generated patients that no template sorts, and a small network that learns to."""

from decimal import Decimal

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from consortium.tasks.cnn import Cnn
from consortium.tasks.errors import TaskUnknown
from consortium.tasks.lesion_image import (
    LESION_IMAGE,
    PATIENTS,
    SCANNERS,
    SEED,
    SIDE,
    generate,
    generated,
)
from sml.model_groups import groups_for
from tests.benchmarks.images import matched_filter, scored, trained

FRAME = generate(SCANNERS[0], 60, 7)


@pytest.fixture(scope="module")
def sites():
    return LESION_IMAGE.sites()


def test_the_same_seed_gives_the_same_patients(sites) -> None:
    again, others = generate(SCANNERS[0], 60, 7), generate(SCANNERS[0], 60, 8)
    assert np.array_equal(np.stack(FRAME["image"]), np.stack(again["image"]))
    assert FRAME["lesion"].equals(again["lesion"])
    assert not np.array_equal(np.stack(FRAME["image"]), np.stack(others["image"]))
    for ours, theirs in zip(sites, generated(4, SEED), strict=True):
        assert np.array_equal(np.stack(ours.frame["image"]), np.stack(theirs.frame["image"]))


def test_images_are_as_a_scanner_stores_them() -> None:
    images = np.stack(FRAME["image"])
    assert images.shape == (60, SIDE, SIDE)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 4095
    assert np.array_equal(images, np.rint(images))
    assert FRAME["lesion"].sum() == 30
    LESION_IMAGE.check(FRAME)


def test_four_hospitals_with_four_contrasts(sites) -> None:
    assert [len(site.frame) for site in sites] == list(PATIENTS)
    assert [site.declared_patients for site in sites] == [240, 215, 190, 145]
    assert len({scanner.contrast for scanner in SCANNERS}) == 4
    above = []
    for site, scanner in zip(sites, SCANNERS, strict=True):
        images = np.stack(site.frame["image"])
        assert abs(np.median(images) - scanner.offset) < scanner.gain
        above.append(np.mean((images - scanner.offset) / scanner.gain))
        assert site.frame["lesion"].mean() == 0.5
    assert above == sorted(above, reverse=True)


@pytest.mark.parametrize("hospitals", [1, 5])
def test_other_numbers_of_hospitals(hospitals: int) -> None:
    sites = LESION_IMAGE.sites(hospitals=hospitals)
    assert [site.id for site in sites] == [f"hospital-{i + 1}" for i in range(hospitals)]
    first = {site.frame["image"].iloc[0].tobytes() for site in sites}
    assert len(first) == hospitals


@pytest.mark.parametrize("hospitals", [0, 17, -1, 2.0])
def test_numbers_that_do_not_come(hospitals: int) -> None:
    with pytest.raises(TaskUnknown):
        LESION_IMAGE.sites(hospitals=hospitals)


def test_parts_are_disjoint_and_repeatable(sites) -> None:
    site = sites[3]
    split, again = LESION_IMAGE.split(site, 3), LESION_IMAGE.split(site, 3)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [144, 36, 60]
    assert len(set().union(*(part.index for part in parts))) == len(site.frame)
    assert split.test.index.equals(again.test.index)


def test_gain_and_offset_of_a_scanner_do_not_reach_the_model() -> None:
    other = FRAME.assign(image=[image * 2 + 100 for image in FRAME["image"]])
    assert np.allclose(LESION_IMAGE.encode(FRAME), LESION_IMAGE.encode(other), atol=1e-5)


def test_a_matched_filter_is_fooled_and_not_blind(sites) -> None:
    splits = {site.id: LESION_IMAGE.split(site, 0) for site in sites}
    assert 0.70 <= matched_filter(splits) <= 0.85


def test_the_network_starts_at_one_half_from_its_seed() -> None:
    x, _ = LESION_IMAGE.tensors(FRAME)
    model, again, other = (LESION_IMAGE.model(seed) for seed in (1, 1, 2))
    assert torch.equal(model(x), torch.zeros(len(FRAME), 1))
    assert sum(parameter.numel() for parameter in model.parameters()) == 689
    assert torch.equal(model[4].weight, again[4].weight)
    assert not torch.equal(model[4].weight, other[4].weight)
    assert LESION_IMAGE.network.to_record() != Cnn(threshold=Decimal(1)).to_record()


def test_filters_have_no_mean_and_a_negative_each() -> None:
    filters = LESION_IMAGE.model()[0].weight.detach()
    assert torch.allclose(filters.sum(dim=(1, 2, 3)), torch.zeros(8), atol=1e-6)
    assert torch.allclose(filters.flatten(1).norm(dim=1), torch.ones(8))
    assert torch.equal(filters[:4], -filters[4:])


def test_the_mapping_finds_the_networks_groups() -> None:
    groups = groups_for(LESION_IMAGE.model())
    assert [(group.name, group.size) for group in groups] == [
        ("input", 1), ("hidden.1", 8), ("hidden.2", 8),
    ]  # fmt: skip


def test_no_layer_mixes_patients() -> None:
    model = LESION_IMAGE.model()
    assert sum(isinstance(layer, nn.GroupNorm) for layer in model) == 2
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model)
    assert not list(model.buffers())
    nn.init.normal_(model[-1].weight)
    x, _ = LESION_IMAGE.tensors(FRAME)
    assert torch.allclose(model(x)[:3], model(x[:3]), atol=1e-5)


def test_two_hospitals_learn_under_privacy(sites) -> None:
    two = sites[:2]
    splits = {site.id: LESION_IMAGE.split(site, 0) for site in two}
    state = trained(two, splits, Decimal(8), seed=0)
    for split in splits.values():
        logits, outcomes = scored(state, split)
        assert roc_auc_score(outcomes, logits) > 0.9
