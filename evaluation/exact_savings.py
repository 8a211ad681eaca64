"""What keeping a prompt's keys saves, and what OpenVINO does: CPU time of a step and of a decoding."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from models.denoiser import UNetRunner
from models.folder import LatentDiffusionModel, load_model, model_path
from models.text_encoder import TextStates
from pipelines.runners.choice import cpu_seconds
from pipelines.runners.on_openvino import OpenVINORunner
from pipelines.runners.on_torch import TorchRunner

TOKENS = (5, 77)  # a few words; what CLIP reads always


@torch.inference_mode()
def savings(model: LatentDiffusionModel) -> dict[str, float]:
    """Milliseconds of CPU time of one guided step at the model's own size, with and without each saving."""
    unet: Any = model.denoiser.unet
    factor = model.autoencoder.downsampling_factor
    side = (model.defaults.height // factor, model.defaults.width // factor)
    z, t = torch.randn(2, unet.config.in_channels, *side), torch.full((2,), 500.0)
    plain, works = UNetRunner(unet), dict[str, Callable[[], object]]()
    pooled = model.text_encoder.encode([""] * 2).pooled
    for tokens in TOKENS:
        hidden = torch.randn(2, tokens, model.text_encoder.dim)
        states = TextStates(hidden, torch.ones(2, tokens, dtype=torch.bool), pooled)
        works[f"{tokens} tokens, keys of every step"] = partial(plain, z, t, states)
        works[f"{tokens} tokens, keys of the prompt"] = partial(TorchRunner(unet), z, t, states)
    works["timestep embedding, which is computed at every step"] = lambda: unet.time_embedding(
        unet.get_time_embed(z, t)
    )
    return {name: 1000 * seconds for name, seconds in cpu_seconds(works).items()}


@torch.inference_mode()
def parts(model: LatentDiffusionModel) -> dict[str, float]:
    """Milliseconds of CPU time of a guided step and of a decoded picture on torch and on OpenVINO."""
    with torch.inference_mode(False):
        fast = OpenVINORunner(model)
    unet: Any = model.denoiser.unet
    slow, factor = TorchRunner(unet), model.autoencoder.downsampling_factor
    side = (model.defaults.height // factor, model.defaults.width // factor)
    states, t = model.text_encoder.encode(["", "a red apple"]), torch.full((2,), 500.0)
    z = torch.randn(2, unet.config.in_channels, *side)
    latents = torch.randn(1, model.autoencoder.latent_channels, *side)
    works: dict[str, Callable[[], object]] = {
        "step on torch": lambda: slow(z, t, states),
        f"step on {fast.name}": lambda: fast.unet(z, t, states),
        "decoding on torch": lambda: model.autoencoder.decode(latents),
        f"decoding on {fast.name}": lambda: fast.decode(latents),
    }
    return {name: 1000 * seconds for name, seconds in cpu_seconds(works).items()}


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/starter"))
    model = load_model(model_path(parser.parse_args().model))
    for name, milliseconds in (savings(model) | parts(model)).items():
        print(f"{milliseconds:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
