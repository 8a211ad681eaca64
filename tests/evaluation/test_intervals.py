import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import quantile_test

from evaluation.intervals import Measured, jackknife, mean, median, proportion


def test_a_proportion_has_the_interval_of_wilsons_formula():
    # 10 of 100: (.0552, .1744), as statsmodels' proportion_confint(10, 100, method="wilson") gives it.
    measured = proportion(torch.arange(100) < 10)
    assert (measured.value, measured.low, measured.high) == pytest.approx((0.1, 0.05523, 0.17437), abs=1e-5)


@given(st.integers(1, 50), st.data())
def test_the_interval_of_a_proportion_holds_it_and_stays_between_nothing_and_all(n, data):
    hits = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    measured = proportion(hits)
    assert 0 <= measured.low <= measured.value <= measured.high <= 1


@given(n=st.integers(2, 40), rounds=st.integers(1, 4), data=st.data())
def test_tries_at_the_same_things_tell_what_they_tell_apart(n, rounds, data):
    hits = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    alike = proportion(hits.expand(rounds, n))  # every try ends as the first: no more is known than by one
    once = proportion(hits)
    width = once.high - once.low
    assert alike.high - alike.low == pytest.approx(width, rel=0.05)
    apart = torch.rand(rounds, 4000, generator=torch.Generator().manual_seed(n)) < 0.3
    many, flat = proportion(apart), proportion(apart.flatten())
    assert many.high - many.low == pytest.approx(flat.high - flat.low, rel=0.05)


def test_a_mean_has_the_textbook_interval():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    half = 1.959964 * (5 / 3) ** 0.5 / 2
    measured = mean(values)
    assert (measured.value, measured.low, measured.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))


@given(st.integers(6, 40), st.integers(0, 99))
def test_a_median_lies_between_the_values_that_scipys_quantile_test_names(n, seed):
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theirs = quantile_test(values.numpy(), q=0, p=0.5).confidence_interval(0.95)
    measured = median(values)
    assert (measured.low, measured.high) == (theirs.low, theirs.high)
    assert measured.value == pytest.approx(float(values.quantile(0.5)))


def test_of_few_values_the_median_has_the_whole_range():
    assert median(torch.tensor([3.0, 1.0, 2.0])) == Measured(2.0, 1.0, 3.0)


def test_the_jackknife_of_a_mean_is_the_interval_of_the_mean():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0))
    ours, textbook = jackknife(lambda some: float(some.mean()), values, groups=40), mean(values)
    assert (ours.low, ours.high) == pytest.approx((textbook.low, textbook.high), abs=1e-5)


def test_an_entry_has_its_interval_beside_it():
    assert Measured(0.12345, 0.1, 0.2).entry("top5") == {"top5": 0.1235, "top5_interval": [0.1, 0.2]}
