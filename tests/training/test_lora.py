import copy
import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from models.errors import ConfigError
from models.unet import build_unet
from models.weights import LORA_FILE
from tests.models.families import family_model, family_tokenizer
from training.lora import TEXT_TARGETS, Lora, save_lora

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def random_unet():
    torch.manual_seed(0)
    unet = build_unet("tiny", 4, 32).eval()
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.05)
    return unet


def output(unet):
    generator = torch.Generator().manual_seed(1)
    latents, states, pooled = (
        torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 8), (2, 5, 32), (2, 32))
    )
    with torch.no_grad():
        return unet(latents, 500.0, states, class_labels=pooled).sample


def trained(network, rank, alpha, targets):
    """Adapters as after some training: B is zero no longer."""
    lora = Lora(network, rank, alpha, targets)
    for parameter in lora.adapter.parameters():
        nn.init.normal_(parameter, std=0.2)
    return lora


def header(folder):
    with safe_open(folder / LORA_FILE, "pt") as file:
        return file.metadata()


def test_adapters_change_nothing_at_first_and_are_all_that_is_trained() -> None:
    unet = random_unet()
    before, layers = output(unet), 4 * 2 * (1 + 1 + 2)  # two attentions in a block; down 1, mid 1, up 2
    lora = Lora(unet, 2, 0, ATTENTION)
    assert torch.equal(output(unet), before)
    assert len(lora.adapter) == layers
    wanted = {id(parameter) for parameter in lora.adapter.parameters()}
    assert {id(parameter) for parameter in unet.parameters() if parameter.requires_grad} == wanted
    assert len(wanted) == 2 * layers


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.sampled_from([0.0, 1.0, 3.0]), st.integers(0, 100))
def test_an_adapted_layer_is_the_papers_equation(rank, alpha, seed) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 5, dtype=torch.float64))
    weight, bias, x = network[0].weight.detach(), network[0].bias.detach(), torch.randn(3, 6).double()
    lora = trained(network, rank, alpha, ["0"])
    a, b = (lora.adapter["0"][name].weight.detach().double() for name in ("lora_A", "lora_B"))
    assert (a.shape, b.shape) == ((rank, 6), (5, rank))
    expected = x @ weight.T + bias + (alpha or rank) / rank * x @ a.T @ b.T
    assert torch.allclose(network(x), expected, atol=1e-5)
    assert torch.allclose(lora.merged(lora.adapter)(x), expected, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.sampled_from([0.0, 3.0]), st.integers(0, 100))
def test_adapters_approach_a_network_as_near_as_their_rank_can(rank, alpha, seed) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Linear(6, 5))
    wanted = copy.deepcopy(network)
    for parameter in wanted.parameters():
        nn.init.normal_(parameter)
    changes = [(wanted[i].weight - network[i].weight).detach().flatten(1) for i in (0, 1)]
    lora = Lora(network, rank, alpha, ["0", "1"])
    lora.approach(wanted)
    merged = lora.merged(lora.adapter)
    for i, change in enumerate(changes):
        missed = (wanted[i].weight - merged[i].weight).detach().flatten(1)
        # The least that any matrix of this rank leaves (Eckart, Young and Mirsky).
        assert torch.allclose(missed.norm(), torch.linalg.svdvals(change)[rank:].norm(), atol=1e-4)


@pytest.mark.slow
def test_merging_takes_the_weights_it_is_given_and_leaves_the_network_alone() -> None:
    unet = random_unet()
    plain, names = output(unet), unet.state_dict().keys()
    lora = trained(unet, 4, 8, ATTENTION)
    adapted, other = output(unet), copy.deepcopy(lora.adapter)
    merged = lora.merged(lora.adapter)
    assert merged.state_dict().keys() == names
    assert not torch.equal(adapted, plain)
    assert (output(merged) - adapted).abs().max() < 1e-3 * (adapted - plain).abs().max()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(output(lora.merged(other)), plain)
    assert torch.equal(output(unet), adapted)


@pytest.mark.slow
def test_diffusers_loads_the_file_into_the_same_unet_with_the_same_output(tmp_path: Path) -> None:
    unet = random_unet()
    fresh = [copy.deepcopy(unet) for _ in range(2)]
    lora = trained(unet, 4, 2, ATTENTION)
    save_lora(tmp_path, {"unet": (lora, lora.adapter)}, {"base_model_id": "0123456789"})
    fresh[0].load_lora_adapter(tmp_path, prefix="unet", weight_name=LORA_FILE)
    assert torch.equal(output(fresh[0]), output(unet))
    mixin = StableDiffusionLoraLoaderMixin
    weights, alphas, metadata = mixin.lora_state_dict(
        tmp_path, weight_name=LORA_FILE, return_lora_metadata=True
    )
    mixin.load_lora_into_unet(weights, alphas, fresh[1], metadata=metadata)
    assert torch.equal(output(fresh[1]), output(unet))


def adapted_encoder(family, folder):
    """An encoder before and after adapters that are written to `folder`, and its states after."""
    tokenizer = family_tokenizer(family)
    encoder, numbers = family_model(family, tokenizer), torch.tensor([[3, 4, 5]])
    fresh, before = copy.deepcopy(encoder), encoder(numbers).last_hidden_state.detach()
    lora = trained(encoder, 2, 4, TEXT_TARGETS[family])
    after = encoder(numbers).last_hidden_state.detach()
    assert not torch.allclose(before, after, atol=1e-3)
    save_lora(folder, {"text_encoder": (lora, lora.adapter)}, {})
    return fresh, numbers, after


def test_diffusers_loads_the_file_into_the_same_clip(tmp_path: Path) -> None:
    fresh, numbers, after = adapted_encoder("clip_text_model", tmp_path)
    mixin = StableDiffusionLoraLoaderMixin
    weights, alphas, metadata = mixin.lora_state_dict(
        tmp_path, weight_name=LORA_FILE, return_lora_metadata=True
    )
    mixin.load_lora_into_text_encoder(weights, alphas, fresh, metadata=metadata)
    assert torch.equal(fresh(numbers).last_hidden_state, after)


# diffusers knows CLIP's names alone; the other kinds are read by transformers' own loader.
@pytest.mark.parametrize("family", TEXT_TARGETS)
def test_transformers_loads_the_adapters_of_every_kind_of_text_encoder(family, tmp_path: Path) -> None:
    fresh, numbers, after = adapted_encoder(family, tmp_path)
    weights, options = load_file(tmp_path / LORA_FILE), json.loads(header(tmp_path)["lora_adapter_metadata"])
    config = LoraConfig(**{name.removeprefix("text_encoder."): value for name, value in options.items()})
    weights = {name.removeprefix("text_encoder."): tensor for name, tensor in weights.items()}
    fresh.load_adapter(adapter_state_dict=weights, peft_config=config)
    assert torch.equal(fresh(numbers).last_hidden_state, after)


def test_the_header_says_what_the_file_belongs_to(tmp_path: Path) -> None:
    lora = Lora(random_unet(), 4, 0, ("to_q",))
    save_lora(tmp_path, {"unet": (lora, lora.adapter)}, {"base_model_id": "abc", "trigger_captions": '["a"]'})
    written = header(tmp_path)
    assert written["base_model_id"] == "abc"
    assert written["trigger_captions"] == '["a"]'
    assert json.loads(written["lora_adapter_metadata"]) == {
        "unet.r": 4,
        "unet.lora_alpha": 4,
        "unet.target_modules": ["to_q"],
    }


@pytest.mark.parametrize("target", ["to_r", "norm1", "o_q", "0"])  # "0" is also a gated unit, not one layer
def test_a_target_that_cannot_be_adapted_is_named(target) -> None:
    with pytest.raises(ConfigError, match=f"'{target}'"):
        Lora(build_unet("tiny", 4, 32), 4, 0, ["to_q", target])
