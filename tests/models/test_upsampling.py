"""Doubling on the small grid: diffusers' own layer, its weights, its gradients, and its answers."""

import copy

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora import Conv2d as LoraConv2d
from torch import Tensor, nn

from models import upsampling
from models.autoencoder import Regularizer, build_autoencoder
from models.unet import build_unet
from models.upsampling import SmallGridUpsample, upsample_on_small_grids
from pipelines.tiles import circular


def layers(channels: int, out_channels: int) -> tuple[Upsample2D, SmallGridUpsample]:
    """One of diffusers', and ours with the same weights."""
    torch.manual_seed(0)
    usual = Upsample2D(channels, use_conv=True, out_channels=out_channels)
    return usual, SmallGridUpsample(copy.deepcopy(usual))


def on_the_small_grid(layer: SmallGridUpsample, given: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Its answer, and proof that diffusers' way was not taken."""
    with monkeypatch.context() as patch:
        patch.setattr(upsampling, "MIN_POSITIONS", 1)
        patch.setattr(Upsample2D, "forward", None)
        answer: Tensor = layer(given)
        return answer


@given(
    batch=st.integers(1, 3), height=st.integers(1, 7), width=st.integers(1, 7), channels=st.integers(1, 5),
    out_channels=st.integers(1, 5), ring=st.booleans(),
)  # fmt: skip
def test_every_size_is_doubled_as_diffusers_doubles_it(
    batch: int, height: int, width: int, channels: int, out_channels: int, ring: bool
) -> None:
    usual, ours = layers(channels, out_channels)
    given_ = torch.randn(batch, channels, height, width)
    with pytest.MonkeyPatch.context() as patch, circular(usual, ring), circular(ours, ring):
        answer = on_the_small_grid(ours, given_, patch)
        assert answer.shape == (batch, out_channels, 2 * height, 2 * width)
        torch.testing.assert_close(answer, usual(given_), rtol=1e-5, atol=1e-5)


def test_its_gradients_are_those_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, ours = layers(6, 4)
    one = torch.randn(2, 6, 5, 3, dtype=torch.float64, requires_grad=True)
    other = one.detach().clone().requires_grad_()
    weights = torch.randn(2, 4, 10, 6, dtype=torch.float64)
    (usual.double()(one) * weights).sum().backward()
    (on_the_small_grid(ours.double(), other, monkeypatch) * weights).sum().backward()
    pairs = [(one, other), *zip(usual.parameters(), ours.parameters(), strict=True)]
    for expected, got in pairs:
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("side", "taken"), [(31, False), (32, True)])
def test_a_small_input_is_doubled_by_diffusers_to_the_bit(side: int, taken: bool) -> None:
    usual, ours = layers(3, 3)
    given_ = torch.randn(1, 3, side, side)
    assert torch.equal(ours(given_), usual(given_)) != taken


def test_a_size_that_is_not_the_double_is_diffusers_own() -> None:
    usual, ours = layers(3, 3)
    given_ = torch.randn(1, 3, 40, 40)
    assert torch.equal(ours(given_, (79, 80)), usual(given_, (79, 80)))
    torch.testing.assert_close(ours(given_, (80, 80)), usual(given_), rtol=1e-5, atol=1e-5)


def test_adapters_around_the_convolution_are_heard() -> None:
    usual, ours = layers(3, 3)
    for layer in (usual, ours):
        torch.manual_seed(1)
        layer.conv = LoraConv2d(layer.conv, "default", LoraConfig(init_lora_weights=False), r=2)
    given_ = torch.randn(1, 3, 40, 40)
    assert torch.equal(ours(given_), usual(given_))


def test_what_is_traced_holds_no_choice_by_size() -> None:
    usual, ours = layers(3, 3)
    traced = torch.jit.trace(ours, torch.randn(1, 3, 40, 40))
    given_ = torch.randn(1, 3, 4, 4)
    assert torch.equal(traced(given_), usual(given_))


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_an_autoencoder_keeps_its_weights_by_name_and_decodes_alike(kind: Regularizer) -> None:
    torch.manual_seed(0)
    usual = build_autoencoder("tiny", kind).eval().requires_grad_(False)
    ours = copy.deepcopy(usual)
    upsample_on_small_grids(ours)
    assert_every_layer_is_replaced(ours)
    ours.load_state_dict(usual.state_dict())
    latents = torch.randn(2, usual.latent_channels, 32, 32)
    torch.testing.assert_close(ours.decode(latents), usual.decode(latents), rtol=1e-4, atol=1e-4)


def test_a_unet_keeps_its_weights_by_name() -> None:
    usual = build_unet("tiny", 4, 16)
    ours = copy.deepcopy(usual)
    upsample_on_small_grids(ours)
    assert_every_layer_is_replaced(ours)
    assert list(ours.state_dict()) == list(usual.state_dict())


def assert_every_layer_is_replaced(network: nn.Module) -> None:
    found = [layer for layer in network.modules() if isinstance(layer, Upsample2D)]
    assert found
    assert all(isinstance(layer, SmallGridUpsample) for layer in found)
