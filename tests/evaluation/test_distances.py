import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from evaluation.distances import frechet_distance, kernel_distance, precision_recall


def features(n, dim=6, seed=0, shift=0.0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_frechet_distance_is_its_formula():
    real, drawn = features(200), features(150, seed=1, shift=0.3) * 1.5
    means = real.double().mean(0) - drawn.double().mean(0)
    one, other = (np.cov(x.double().numpy().T) for x in (real, drawn))
    root = scipy.linalg.sqrtm(one @ other).real
    expected = float(means @ means) + np.trace(one + other - 2 * root)
    assert frechet_distance(real, drawn) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_is_that_of_torchmetrics_with_the_network_in_its_own_place():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8))
    network.num_features = 8
    real, drawn = torch.rand(60, 3, 4, 4), torch.rand(50, 3, 4, 4) ** 2
    metric = FrechetInceptionDistance(feature=network)
    with torch.no_grad():
        metric.update(real, real=True)
        metric.update(drawn, real=False)
        ours = frechet_distance(network(real), network(drawn))
    assert ours == pytest.approx(float(metric.compute()), rel=1e-4)


def test_a_set_is_at_no_frechet_distance_from_itself_and_moves_away_with_noise():
    real = features(300)
    distances = [frechet_distance(real, real + s * features(300, seed=2)) for s in (0, 0.25, 0.5, 1)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances == sorted(distances)
    assert distances[3] > 10 * distances[1] > 0


def test_the_kernel_distance_is_its_formula_where_all_pictures_are_one_subset():
    real, drawn = features(12), features(12, seed=1, shift=1.0)

    def kernel(x, y):
        return (x @ y / 6 + 1) ** 3

    def within(xs):
        return sum(kernel(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j) / (12 * 11)

    across = sum(kernel(x, y) for x in real for y in drawn) / 144
    expected = float(within(real) + within(drawn) - 2 * across)
    assert kernel_distance(real, drawn) == pytest.approx(expected, rel=1e-4)


def test_the_kernel_distance_of_two_halves_of_one_set_is_about_nothing_and_grows_with_a_shift():
    distances = [kernel_distance(features(500), features(500, seed=1, shift=s)) for s in (0.0, 0.2, 0.5)]
    assert abs(distances[0]) < 0.05 * distances[2]
    assert distances == sorted(distances)


def test_the_kernel_distance_neither_uses_nor_changes_the_callers_random_numbers():
    real, drawn = features(40), features(30, seed=1)
    torch.manual_seed(5)
    first, next_number = kernel_distance(real, drawn), torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == next_number
    assert kernel_distance(real, drawn) == first


@given(st.integers(0, 100), st.integers(1, 4))
@settings(max_examples=20)
def test_precision_and_recall_equal_a_plain_search(seed, nearest):
    real, drawn = features(9, 2, seed), features(7, 2, seed + 1, 0.5)

    def lies_among(one, others):
        return any(
            torch.dist(one, other) <= sorted(torch.dist(other, third) for third in others)[nearest] + 1e-6
            for other in others
        )

    got = precision_recall(real, drawn, nearest)
    assert got.precise.tolist() == [lies_among(one, real) for one in drawn]
    assert got.recalled.tolist() == [lies_among(one, drawn) for one in real]


def test_pictures_far_from_every_real_one_are_neither_precise_nor_recall_any():
    got = precision_recall(features(20), features(20, seed=1, shift=100.0))
    assert not got.precise.any()
    assert not got.recalled.any()
