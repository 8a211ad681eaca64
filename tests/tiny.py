"""A complete model folder at toy size: real classes, random weights that are always the same."""

import shutil
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer

from models.autoencoder import build_autoencoder
from models.class_encoder import ClassEncoder
from models.defaults import INSTANT, GenerationDefaults, ImageCondition, LatentPreview, write_defaults
from models.denoiser import Denoiser, PredictionType
from models.folder import load_model, save_model, save_part
from models.text_encoder import TextEncoder
from models.unet import build_unet
from training.checkpoint import save_checkpoint

TEXT_DIM = 32
SIDE_PIXELS = 32
WORDS = [
    "a",
    "an",
    "the",
    "of",
    "on",
    "left",
    "right",
    "red",
    "green",
    "blue",
    "apple",
    "dog",
    "cat",
    "style",
]


def tiny_tokenizer(max_tokens: int = 16) -> BertTokenizer:
    """WordPiece over a few words and single letters, so any English text has tokens."""
    letters = string.ascii_lowercase + string.digits + ".,-"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    tokens += [word for word in WORDS if word not in tokens]
    vocab = {token: number for number, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocab, model_max_length=max_tokens)


def tiny_text_encoder(seed: int = 0) -> TextEncoder:
    """A two-layer BERT of width 32."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,  # prompts should differ
    )
    return TextEncoder(BertModel(config, add_pooling_layer=False), tokenizer)


def make_tiny_model(
    path: Path,
    prediction_type: PredictionType = "flow",
    seed: int = 0,
    classes: Sequence[str] | None = None,
    image_condition: ImageCondition | None = None,
) -> Path:
    """Write a tiny model folder: 32 px pictures, latents 4 x 8 x 8; returns `path`.

    It draws `classes` where they are given, else words.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = build_autoencoder("tiny")
        channels = autoencoder.latent_channels
        encoder = tiny_text_encoder(seed) if classes is None else ClassEncoder(classes, TEXT_DIM)
        unet = build_unet("tiny", channels, TEXT_DIM, shown_channels=(1 + channels) if image_condition else 0)
        for parameter in unet.parameters():  # an untrained UNet starts at zero output, blind to its prompt
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.05)
        betas = None
        if prediction_type != "flow":
            betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        save_model(
            path,
            autoencoder=autoencoder,
            denoiser=Denoiser(unet, prediction_type, betas),
            text_encoder=encoder,
            defaults=GenerationDefaults(
                width=SIDE_PIXELS,
                height=SIDE_PIXELS,
                steps=4,
                guidance_scale=2.0,
                sampler="Euler",
                schedule="Automatic",
            ),
            preview=LatentPreview(tuple((0.1 * c, 0.2, -0.1 * c) for c in range(channels)), (0.0, 0.1, -0.1)),
            image_condition=image_condition,
            readme="A random model for tests.\n",
        )
    return path


def with_student(teacher: Path, path: Path) -> Path:
    """Write the model of another folder to `path` with a student in it, whose answers are its own."""
    shutil.copytree(teacher, path)
    model = load_model(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        nn.init.normal_(model.denoiser.unet.get_submodule("conv_out").weight, std=0.05)
    defaults = replace(model.defaults, steps=2, guidance_scale=1.0, sampler="Euler", schedule="Automatic")
    save_part(model.denoiser.unet, path / INSTANT)
    write_defaults(path / INSTANT, defaults)
    return path


def make_tiny_run(folder: Path, steps: Sequence[int]) -> Path:
    """A run of stage 2 that trained nothing; its checkpoints and its `model/` differ in their averages."""
    make_tiny_model(folder / "model")
    (folder / "config.toml").write_text('[data]\npath = "/pictures"\n[model]\n')
    (folder / "checkpoints").mkdir()
    exported = load_file(folder / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    for step in steps:
        averages = {name: tensor + step / 1000 for name, tensor in exported.items()}
        save_checkpoint(folder / "checkpoints", step, {"ema": averages, "weights": averages}, {})
    return folder
