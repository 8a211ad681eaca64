import torch
from hypothesis import given
from hypothesis import strategies as st

from training.seeds import normal, seed_for, uniform


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4))
def test_rows_are_the_same_however_a_batch_is_shared(seed, step, rows, parts):
    whole = normal((3, 2), seed, step, range(rows * parts), "noise")
    shares = [normal((3, 2), seed, step, range(p * rows, (p + 1) * rows), "noise") for p in range(parts)]
    assert torch.equal(whole, torch.cat(shares))
    numbers = uniform(seed, step, range(rows * parts), "t")
    assert torch.equal(numbers[rows:], uniform(seed, step, range(rows, rows * parts), "t"))


def test_purposes_steps_and_positions_never_share_their_numbers():
    draws = [
        normal((4,), 0, step, [position], purpose)
        for step in range(3)
        for position in range(3)
        for purpose in ("noise", "posterior")
    ]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == len(draws)
    assert 0 <= seed_for(1, 2, "x") < 2**63


def test_draws_have_the_moments_of_their_distributions():
    noise = normal((64,), 0, 0, range(500), "noise")
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    numbers = uniform(0, 0, range(4000), "t")
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 0.02
    assert abs(float(numbers.std()) - 12**-0.5) < 0.01
