import time
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from evaluation.limits import LARGEST_NUMBERS, flops_of, limit_of, matrix_products, operators, product_seconds
from models.folder import load_model


def test_a_convolution_is_a_product_with_a_row_for_each_place():
    sizes = matrix_products(lambda: nn.Conv2d(3, 16, 3, padding=1)(torch.randn(2, 3, 8, 10)))
    assert sizes == {(1, 2 * 8 * 10, 3 * 3 * 3, 16): 1}
    assert flops_of(sizes) == 2 * 160 * 27 * 16


def test_a_linear_layer_is_a_product_with_a_row_for_each_token():
    sizes = matrix_products(lambda: nn.Linear(32, 48)(torch.randn(2, 5, 32)))
    assert sizes == {(1, 10, 32, 48): 1}
    assert flops_of(sizes) == 2 * 10 * 32 * 48


@pytest.mark.parametrize("mask", [None, torch.ones(2, 1, 7, 9, dtype=torch.bool)])
def test_attention_is_two_products_for_each_head(mask):
    query, keys = torch.randn(2, 4, 7, 16), torch.randn(2, 4, 9, 16)
    sizes = matrix_products(lambda: F.scaled_dot_product_attention(query, keys, keys, mask))
    assert sizes == {(8, 7, 16, 9): 1, (8, 7, 9, 16): 1}


@pytest.mark.slow
def test_a_whole_network_has_as_many_operations_as_torchs_own_counter_finds(tiny_model_folder):
    model = load_model(tiny_model_folder)
    states = model.text_encoder.encode(["a red apple", "a dog"])
    z, t = torch.randn(2, 4, 8, 8), torch.full((2,), 500.0)

    def attention(query, key, value, *args, out_shape=None, **kwargs):
        (batch, heads, queries, width), keys = query, key[2]
        return 2 * batch * heads * queries * keys * (width + value[3])

    # It does not know the one attention that torch has for processors.
    own = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    for call in (lambda: model.denoiser.runner(z, t, states), lambda: model.autoencoder.decode(z)):
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=own) as counter:
            call()
        assert flops_of(matrix_products(call)) == counter.get_total_flops()


def test_the_time_of_a_product_grows_with_it():
    small, large = (product_seconds((1, side, side, side), time.process_time) for side in (64, 512))
    assert large > 10 * small  # 512 times the operations


@pytest.fixture
def clock(monkeypatch) -> Callable[[], float]:
    """A second of it is a billion operations of matrix products, which are not carried out."""
    done = 0

    def counted(first, second, out):
        nonlocal done
        assert max(first.numel(), second.numel(), out.numel()) <= LARGEST_NUMBERS
        done += 2 * out.numel() * first.shape[-1]

    monkeypatch.setattr(torch, "matmul", counted)
    return lambda: done / 1e9


@pytest.mark.parametrize("size", [(1, 64, 64, 64), (1, 512, 512, 512), (3, 32, 64, 16), (1, 2**17, 512, 512)])
def test_the_time_of_a_product_is_that_of_its_operations_also_where_a_part_is_measured(clock, size):
    assert product_seconds(size, clock) == pytest.approx(flops_of(Counter({size: 1})) / 1e9)


def test_a_clock_that_moves_in_steps_tells_about_the_same(clock):
    stepped = product_seconds((1, 64, 64, 64), lambda: clock() // 0.004 * 0.004)
    assert stepped == pytest.approx(2 * 64**3 / 1e9, rel=0.25)  # a step or less of a block of five


def test_the_limit_counts_every_product():
    limit = limit_of(Counter({(1, 64, 64, 64): 3, (2, 32, 32, 32): 1}), time.process_time)
    assert limit.flops == 2 * (3 * 64**3 + 2 * 32**3)
    assert 0 < limit.flops_per_second <= limit.fastest


def test_operators_are_told_apart_by_kind_the_dearest_first():
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.SiLU())
    pixels = torch.randn(1, 8, 64, 64)
    rows = operators(
        lambda: (network(pixels), F.scaled_dot_product_attention(*[torch.randn(1, 1, 8, 8)] * 3))
    )
    kinds = {name: kind for name, kind, _ in rows}
    assert kinds["aten::silu"] == "the rest"
    assert kinds["aten::native_group_norm"] == "normalisation"
    assert {kind for name, kind in kinds.items() if "conv" in name} == {"matrix products"}
    assert {kind for name, kind in kinds.items() if "attention" in name} == {"attention"}
    seconds = [row[2] for row in rows]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 0
