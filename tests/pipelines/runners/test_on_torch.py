"""The runner on torch: the bits of diffusers' own attention, keys and values of a prompt computed once."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.denoiser import UNetRunner
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.local_engine import TORCH_VERSION, LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.runners.attention import cross_attentions
from pipelines.runners.on_torch import TorchRunner

T = torch.tensor([700.0, 700.0])


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> LatentDiffusionModel:
    return load_model(tiny_model_folder)


@pytest.fixture
def keys_computed(model: LatentDiffusionModel) -> Iterator[Counter[str]]:
    """How often each layer computed the keys of a prompt."""
    counted: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: counted.update([name])

    layers = cross_attentions(model.denoiser.unet)
    hooks = [layer.to_k.register_forward_hook(count(name)) for name, layer in layers.items()]
    yield counted
    for hook in hooks:
        hook.remove()


def latents(seed: int) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def prompts(model: LatentDiffusionModel, *texts: str) -> TextStates:
    return model.text_encoder.encode(list(texts))


@torch.inference_mode()
@pytest.mark.parametrize("mask", ["padded", "whole"])
def test_steps_of_one_prompt_compute_its_keys_once_and_give_the_same_bits(
    model: LatentDiffusionModel, keys_computed: Counter[str], mask: str
) -> None:
    unet = model.denoiser.unet
    states = prompts(model, "", "a red apple on the left")
    assert not states.mask.all()
    if mask == "whole":
        states = dataclasses.replace(states, mask=torch.ones_like(states.mask))
    runner, plain = TorchRunner(unet), UNetRunner(unet)
    outputs = [runner(latents(step), T - step, TextStates.cat([states])) for step in range(3)]
    assert set(keys_computed.values()) == {1}
    assert len(keys_computed) == len(cross_attentions(unet)) > 1
    for step, output in enumerate(outputs):
        assert torch.equal(output, plain(latents(step), T - step, states))


@torch.inference_mode()
def test_another_prompt_is_another_picture(model: LatentDiffusionModel) -> None:
    runner, plain = TorchRunner(model.denoiser.unet), UNetRunner(model.denoiser.unet)
    one, other = prompts(model, "", "a red apple"), prompts(model, "", "a blue apple")
    first = runner(latents(0), T, one)
    second = runner(latents(0), T, other)
    assert torch.equal(second, plain(latents(0), T, other))
    assert torch.equal(runner(latents(0), T, one), first)
    assert not torch.equal(first, second)


@torch.inference_mode()
def test_weights_that_a_lora_exchanges_are_seen(tiny_model_folder: Path) -> None:
    unet = load_model(tiny_model_folder).denoiser.unet
    runner, plain = TorchRunner(unet), UNetRunner(unet)
    states = TextStates(torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool), torch.randn(2, 32))
    before = runner(latents(0), T, states)
    for layer in cross_attentions(unet).values():
        layer.to_v.register_parameter("weight", nn.Parameter(layer.to_v.weight * 2, requires_grad=False))
    after = runner(latents(0), T, states)
    assert torch.equal(after, plain(latents(0), T, states))
    assert not torch.equal(before, after)


def test_the_processors_are_changed_during_a_call_alone(model: LatentDiffusionModel) -> None:
    unet: Any = model.denoiser.unet
    before = dict(unet.attn_processors)
    runner = TorchRunner(unet)
    with torch.inference_mode():
        runner(latents(0), T, prompts(model, "", "cat"))
        assert dict(unet.attn_processors) == before
        with pytest.raises(RuntimeError):
            runner(latents(0)[:, :3], T, prompts(model, "", "cat"))
    assert dict(unet.attn_processors) == before


def test_an_engine_computes_the_keys_of_a_picture_once(
    model: LatentDiffusionModel, keys_computed: Counter[str]
) -> None:
    engine = LocalEngine(model, "cpu")
    request = GenerationRequest(
        prompt="a dog", width=32, height=32, steps=4, guidance_scale=2.0, sampler="Euler", seed=1
    )
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    assert set(keys_computed.values()) == {1}
    model.denoiser.runner = UNetRunner(model.denoiser.unet)
    *_, ordinary = engine.generate(request)
    assert isinstance(ordinary, GenerationResult)
    assert set(keys_computed.values()) == {1 + request.steps}
    assert result.images[0].tobytes() == ordinary.images[0].tobytes()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_gpu_draws_nearly_the_same(tiny_model_folder: Path, dtype: torch.dtype) -> None:
    request = GenerationRequest(
        prompt="a dog", width=32, height=32, steps=4, guidance_scale=2.0, sampler="Euler", seed=1
    )
    pictures = []
    for precision in (torch.float32, dtype):
        *_, result = LocalEngine(tiny_model_folder, "cuda", precision).generate(request)
        assert isinstance(result, GenerationResult)
        assert result.engine == f"torch cuda {str(precision).removeprefix('torch.')} {TORCH_VERSION}"
        pictures.append(torch.tensor(list(result.images[0].tobytes()), dtype=torch.float32))
    error = (pictures[0] - pictures[1]).square().mean()
    assert 10 * (255**2 / error.clamp(min=1e-9)).log10() > 28


@pytest.mark.cuda
def test_compiled_blocks_on_a_gpu_draw_nearly_the_same(tiny_model_folder: Path) -> None:
    t, states = T.cuda(), TextStates(torch.randn(2, 5, 32), torch.ones(2, 5).bool(), torch.randn(2, 32))
    plain = LocalEngine(tiny_model_folder, "cuda").model.denoiser.runner
    compiled = LocalEngine(tiny_model_folder, "cuda", compiled=True).model.denoiser.runner
    with torch.inference_mode():
        outputs = [run(latents(0).cuda(), t, states.to("cuda")) for run in (plain, compiled)]
    assert torch.allclose(*outputs, atol=1e-3)
