"""The statistics and the race behind the figures of block intervals (`make bench AREA=pole`)."""

import random
from xml.etree import ElementTree

import pytest

from tests.benchmarks.interval_plot import svg
from tests.benchmarks.pole_intervals import variation, variation_interval
from tests.benchmarks.proof_of_work import difficulty_for, mine


def test_the_coefficient_of_variation_is_spread_over_mean() -> None:
    assert variation([1, 2, 3]) == pytest.approx(0.5)
    assert variation([10, 20, 30]) == pytest.approx(0.5)
    assert variation([7] * 9) == 0
    # One round in a hundred that waits for a deadline: as irregular as no proof of work.
    assert variation([0.5] * 99 + [60]) > 5


def test_its_interval_holds_the_true_value_and_narrows() -> None:
    draw = random.Random(1)
    few, many = ([draw.gauss(10, 2) for _ in range(count)] for count in (30, 300))
    widths = []
    for values in (few, many):
        low, high = variation_interval(values)
        assert low < 0.2 < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_mined_blocks_meet_the_target_and_follow_each_other() -> None:
    chain = mine(difficulty=100, blocks=600)
    assert all(int.from_bytes(block.hash, "big") < 2**256 // 100 for block in chain)
    assert [block.header[4:36] for block in chain[1:]] == [block.hash for block in chain[:-1]]
    hashes = [block.hashes for block in chain]
    assert sum(hashes) / len(hashes) == pytest.approx(100, rel=0.15)
    assert variation(hashes) == pytest.approx(1, abs=0.15)  # a geometric distribution's


def test_the_difficulty_follows_the_mean() -> None:
    assert difficulty_for(100, 0.02) > 10 * difficulty_for(1, 0.02) > 0


def test_the_plot_is_an_image_with_every_block_in_it() -> None:
    learned, worked = [0.9, 1.0, 1.1, 1.2], [0.1, 0.5, 1.0, 4.0]
    image = ElementTree.fromstring(svg(learned, worked))
    words = [text.text or "" for text in image.iter("{http://www.w3.org/2000/svg}text")]
    assert "Proof of Learning: mean 1.05 s, CV 0.12" in words
    assert "proof of work: mean 1.40 s, CV 1.27" in words
    assert "seconds since the last block" in words
