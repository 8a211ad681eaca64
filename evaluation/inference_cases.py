"""What `benchmark inference` draws: with which models, at which sizes, from which prompts."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from evaluation.benchmark_training import COLOURS, STARTER
from models.autoencoder import Autoencoder
from models.defaults import GenerationDefaults, read_defaults
from models.denoiser import Denoiser, betas_from_config
from models.folder import load_autoencoder, save_model
from models.text_encoder import TextEncoder
from models.unet import build_unet
from pipelines.request import GenerationRequest
from training.runs import runs_folder

STARTER_STEPS = 12
SAMPLER = "DPM++ 2M"  # which the loop is written for, too
FIRST_SEED = 1000
THINGS = ("apple", "heart", "car", "fish", "flower", "house", "star", "cat face")
PROMPTS = [
    f"a {colour} {thing}{end}"
    for end, colour, thing in itertools.product(
        ("", ", flat style", " on a white background"), COLOURS, THINGS
    )
]


@dataclass(frozen=True, slots=True)
class Case:
    """How pictures are drawn, `most_pictures` requests at most, and with which model.

    `build` gives its folder, made where it is missing; None stands for the model that the command names.
    """

    options: dict[str, Any]
    build: Callable[[], Path] | None = None
    most_pictures: int = len(PROMPTS)
    memory: bool = False  # whether its peak in a fresh process is measured, too

    def requests(self, folder: Path, count: int) -> list[GenerationRequest]:
        """`count` of them, or as many as are timed at most, each with a prompt that no other has."""
        defaults = read_defaults(folder)
        options = self.options | {"batch_size": self.options["count"]}
        return [
            GenerationRequest.from_options(
                options | {"prompt": prompt, "seed": FIRST_SEED + 10 * i}, defaults
            )
            for i, prompt in enumerate(PROMPTS[: min(count, self.most_pictures)])
        ]


def unet60m() -> Path:
    """The starter with a random UNet of 59 M parameters in it, for pictures of 32x32 latents."""

    def save(folder: Path) -> None:
        autoencoder, encoder = load_autoencoder(STARTER), TextEncoder.from_folder(STARTER)
        unet = build_unet("medium", autoencoder.latent_channels, encoder.dim)
        for parameter in unet.parameters():  # what is untrained starts at zero, and answers zero
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        side = 32 * autoencoder.downsampling_factor
        save_model(
            folder,
            autoencoder=autoencoder,
            denoiser=Denoiser(unet, "flow"),
            text_encoder=encoder,
            defaults=replace(read_defaults(STARTER), width=side, height=side),
        )

    return _kept("unet60m", save)


def stable_diffusion() -> Path:
    """A random model of Stable Diffusion 1.5's shape: 2.1 GB in files, twice as much in memory."""

    def save(folder: Path) -> None:
        letters = [letter + end for letter in map(chr, range(33, 127)) for end in ("", "</w>")]
        tokens = ["<|startoftext|>", "<|endoftext|>", *letters]
        tokenizer = CLIPTokenizer(
            vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=77
        )
        betas = betas_from_config(
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
        )
        unet, vae, text_encoder = stable_diffusion_networks()
        save_model(
            folder,
            autoencoder=Autoencoder(vae),
            denoiser=Denoiser(unet, "epsilon", betas),
            text_encoder=TextEncoder(text_encoder, tokenizer),
            defaults=GenerationDefaults(width=512, height=512, sampler="Euler"),
        )

    return _kept("sd15-512", save)


def stable_diffusion_networks() -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """The UNet, autoencoder and text encoder of Stable Diffusion 1.5, untrained."""
    channels = (128, 256, 512, 512)
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        sample_size=512,
    )
    text = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12
    )
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768), vae, CLIPTextModel(text)


def _kept(name: str, save: Callable[[Path], None]) -> Path:
    """A folder of random weights that are always the same, made once: engines keep graphs by the weights."""
    folder = runs_folder() / "cache" / "benchmark" / name
    if not (folder / "model_index.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]), TemporaryDirectory(dir=folder.parent) as draft:
            torch.manual_seed(0)
            save(Path(draft) / name)
            (Path(draft) / name).rename(folder)
    return folder


CASES = {
    "starter-b1": Case({"count": 1, "steps": STARTER_STEPS, "sampler": SAMPLER}),
    "starter-b4": Case({"count": 4, "steps": STARTER_STEPS, "sampler": SAMPLER}, most_pictures=8),
    "unet60m": Case({"count": 1, "steps": STARTER_STEPS, "sampler": SAMPLER}, unet60m, most_pictures=8),
    "sd15-512": Case({"count": 1, "steps": 2}, stable_diffusion, most_pictures=2, memory=True),
}
