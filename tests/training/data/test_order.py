from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ConfigError
from training.data.order import Order, assign_buckets, bucket_shapes, epoch_order
from training.seeds import seed_for


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 64), st.integers(0, 5))
def test_batches_of_one_bucket_walk_through_every_picture_once_an_epoch(length, batch_size, seed):
    order = Order(np.zeros(length, np.int8), batch_size, seed)
    steps = -(-3 * length // batch_size)
    seen = [index for step in range(steps) for index in order.batch(step)]
    for epoch in range(3):
        part = seen[epoch * length : (epoch + 1) * length]
        generator = torch.Generator().manual_seed(seed_for(seed, epoch, "order"))
        assert part == torch.randperm(length, generator=generator).tolist()


def dealt(buckets, batch_size, seed):
    """The batches as the rule says it, picture by picture from the beginning."""
    epoch, laid = 0, {}
    while True:
        for picture in epoch_order(len(buckets), seed, epoch):
            pile = laid.setdefault(buckets[picture], [])
            pile.append(int(picture))
            if len(pile) == batch_size:
                yield laid.pop(buckets[picture])
        epoch += 1


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.integers(1, 12),
    st.lists(st.integers(0, 29), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=60)
def test_any_step_is_the_batch_that_dealing_from_the_beginning_gives(buckets, batch_size, steps):
    order = Order(np.array(buckets, np.int8), batch_size, seed=1)
    expected = list(islice(dealt(buckets, batch_size, 1), 30))
    for step in steps:
        batch = order.batch(step)
        assert batch == expected[step]
        assert len({buckets[picture] for picture in batch}) == 1


def test_an_epoch_is_ordered_once_and_not_at_every_step(monkeypatch):
    made = []

    def counted(length, seed, epoch):
        made.append(epoch)
        return epoch_order(length, seed, epoch)

    monkeypatch.setattr("training.data.order.epoch_order", counted)
    order = Order(np.zeros(1000, np.int8), 10, 0)
    for step in range(300):
        order.batch(step)
    assert made == [0, 1, 2]


@pytest.mark.parametrize(("resolution", "count", "multiple"), [(512, 9, 64), (256, 5, 32), (32, 3, 8)])
def test_buckets_have_about_the_same_area_and_sides_that_fit(resolution, count, multiple):
    shapes = bucket_shapes(resolution, count, multiple)
    assert len(set(shapes)) == count
    assert shapes[count // 2] == (resolution, resolution)
    assert shapes == [(height, width) for width, height in reversed(shapes)]
    for width, height in shapes:
        assert width % multiple == height % multiple == 0
        assert 0.7 < width * height / resolution**2 < 1.3


def test_pictures_go_where_least_of_them_is_cropped():
    shapes = bucket_shapes(512, 9, 64)
    ratios = np.exp(np.random.default_rng(0).uniform(-2, 2, 500)).astype(np.float32)

    def kept(ratio, shape):
        own = shape[0] / shape[1]
        return min(ratio / own, own / ratio)

    for ratio, bucket in zip(ratios, assign_buckets(ratios, shapes), strict=True):
        assert kept(ratio, shapes[bucket]) >= max(kept(ratio, shape) for shape in shapes) - 1e-6


@pytest.mark.parametrize(("resolution", "count", "multiple"), [(64, 3, 64), (128, 7, 64), (128, 4, 8)])
def test_buckets_that_cannot_be_are_refused(resolution, count, multiple):
    with pytest.raises(ConfigError, match=r"data\.buckets"):
        bucket_shapes(resolution, count, multiple)
