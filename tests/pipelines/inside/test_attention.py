import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.inside.attention import AttentionRunner, explicit_attention, token_maps
from pipelines.prompt.encode import PromptEncoder
from tests.stock import make_stock_model

PROMPTS = ("", "a red apple on the cat")


@pytest.fixture(scope="module", params=["ours", "stock"])
def model(
    request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> LatentDiffusionModel:
    """Our own kind of UNet with a masked BERT, and Stable Diffusion's with CLIP."""
    if request.param == "ours":
        return load_model(tiny_model_folder)
    return load_model(make_stock_model(tmp_path_factory.mktemp("models") / "stock"))


def states_of(model: LatentDiffusionModel) -> TextStates:
    encoder: Any = model.text_encoder
    return TextStates.cat([PromptEncoder(encoder).encode(prompt) for prompt in PROMPTS])


def some_latents(model: LatentDiffusionModel) -> Tensor:
    return torch.randn(2, model.autoencoder.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))


def recomputed(queries: Tensor, keys: Tensor, mask: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)), the mean over heads, written down with einsum: (B, N, T)."""
    q, k = (states.unflatten(-1, (heads, -1)) for states in (queries, keys))  # (B, N, heads, d), (B, T, ...)
    scores = torch.einsum("bnhd,bthd->bhnt", q, k) / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1).mean(1)


def test_weights_are_the_softmax_of_what_hooks_see(model: LatentDiffusionModel) -> None:
    seen: dict[str, Tensor] = {}
    unet: Any = model.denoiser.unet
    layers = {name: layer for name, layer in unet.named_modules() if name.endswith("attn2")}

    def hook(name: str) -> Any:
        return lambda module, given, output: seen.update({name: output.detach()})

    hooks = [
        getattr(layer, part).register_forward_hook(hook(f"{name}.{part}"))
        for name, layer in layers.items()
        for part in ("to_q", "to_k")
    ]
    states = states_of(model)
    with explicit_attention(unet) as weights:
        model.denoiser.epsilon(some_latents(model), 1.0, states)
    for one in hooks:
        one.remove()
    assert set(weights) == set(layers)
    for name, layer in layers.items():
        expected = recomputed(seen[f"{name}.to_q"], seen[f"{name}.to_k"], states.mask, layer.heads)
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights[name].sum(-1), torch.ones(weights[name].shape[:2]))
        assert (weights[name].transpose(1, 2)[~states.mask] == 0).all()
        assert weights[name].std() > 0


def test_what_is_drawn_with_the_softmax_written_out_is_the_same(model: LatentDiffusionModel) -> None:
    x, states = some_latents(model), states_of(model)
    fused = model.denoiser.epsilon(x, 1.0, states)
    with explicit_attention(model.denoiser.unet):
        written_out = model.denoiser.epsilon(x, 1.0, states)
    torch.testing.assert_close(written_out, fused, rtol=1e-4, atol=1e-5)


def test_processors_come_back_also_after_a_failure(model: LatentDiffusionModel) -> None:
    unet: Any = model.denoiser.unet
    before = dict(unet.attn_processors)
    with contextlib.suppress(KeyboardInterrupt), explicit_attention(unet):
        assert dict(unet.attn_processors) != before
        raise KeyboardInterrupt
    assert dict(unet.attn_processors) == before


def test_maps_of_all_tokens_sum_to_one_at_each_place(model: LatentDiffusionModel) -> None:
    runner = AttentionRunner(model.denoiser.unet)
    states = states_of(model)
    for level in (0.3, 0.7):
        runner(some_latents(model), torch.full((2,), 500 * level), states)
    maps = runner.take()
    assert maps.shape[:2] == states.mask.shape
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))


def test_layers_of_odd_sides_find_their_places_again() -> None:
    """Latents of 17 x 15 are 9 x 8 one level below and 5 x 4 two: the last is too coarse to say where."""
    fine, coarse, coarsest = (torch.zeros(1, places, 2) for places in (17 * 15, 9 * 8, 5 * 4))
    for layer in (fine, coarse):
        layer[..., 1] = 1
    coarsest[..., 0] = 1
    fine[0, 3 * 15 + 2] = torch.tensor([1.0, 0.0])  # row 3, column 2
    maps = token_maps({"coarsest": coarsest, "coarse": coarse, "fine": fine}, (17, 15))
    assert maps.shape == (1, 2, 17, 15)
    assert maps[0, 0, 3, 2] == 0.5
    assert maps[0, 0].sum() == 0.5


def test_half_precision_is_looked_at_in_a_copy(model: LatentDiffusionModel) -> None:
    unet = AttentionRunner(model.denoiser.unet).unet
    assert unet is model.denoiser.unet
    half: Any = torch.nn.Module.to(load_model(model.path).denoiser.unet, torch.bfloat16)
    runner = AttentionRunner(half)
    assert next(runner.unet.parameters()).dtype is torch.float32
    assert next(half.parameters()).dtype is torch.bfloat16
