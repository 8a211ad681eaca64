"""A single file of Stable Diffusion as the model that the rest of the program knows."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import ImageCondition, read_defaults
from models.denoiser import Denoiser
from models.errors import ModelError
from models.folder import build_part, model_id
from models.folder_check import model_name
from models.latent_diffusion import LatentDiffusionModel
from models.single_file.checkpoint import TOKENIZER, Checkpoint, Part, read_checkpoint
from models.single_file.families import OPEN_CLIP
from models.text_encoder import TextEncoder
from models.text_pair import TextEncoderPair
from models.weights import load_weights

OPEN_CLIP_PAD = "!"  # token 0, with which OpenCLIP fills; OpenAI's CLIP repeats its end token


def load_single_file(path: Path) -> LatentDiffusionModel:
    """The model of a file that check_model_folder finds nothing wrong with; a part at a time is converted.

    Raises ModelError for weights that are not finite or do not fit together.
    """
    checkpoint = read_checkpoint(path)
    unet = load_network(checkpoint, "unet", UNet2DConditionModel)
    return LatentDiffusionModel(
        name=model_name(path),
        path=path,
        model_id=model_id(path),
        autoencoder=autoencoder_of_file(path),
        denoiser=Denoiser.from_scheduler_config(unet, checkpoint.scheduler),
        text_encoder=_text_encoder(checkpoint),
        defaults=read_defaults(path),
        preview=None,
        image_condition=ImageCondition("inpaint") if checkpoint.inpaint else None,
    )


def autoencoder_of_file(path: Path) -> Autoencoder:
    """The autoencoder of a whole model in one file, frozen and in float32."""
    return build_autoencoder(read_checkpoint(path).parts["vae"], path)


def build_autoencoder(part: Part, path: Path) -> Autoencoder:
    """An autoencoder of a file; ModelError where its weights do not fit."""
    weights = {name: _flat(name, tensor) for name, tensor in load_weights(path, part.names).items()}
    try:
        autoencoder = Autoencoder(build_part(AutoencoderKL, part.config, weights, path))
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ModelError(f"{path}: {error}; use another autoencoder") from error
    return autoencoder.eval().requires_grad_(False)


def _text_encoder(checkpoint: Checkpoint) -> TextEncoder:
    """What reads the prompts: one encoder, or the two of SDXL."""
    encoders = []
    for name, prefix in checkpoint.family.encoders.items():
        part = checkpoint.parts[name]
        weights = clip_weights(checkpoint.path, part)
        encoder = TextEncoder.from_parts(part.config, weights, TOKENIZER, checkpoint.path)
        if prefix.endswith(f".{OPEN_CLIP}"):
            encoder.tokenizer.pad_token = OPEN_CLIP_PAD
        encoders.append(encoder)
    first, *second = encoders
    return TextEncoderPair(first, second[0]) if second else first


def load_network(checkpoint: Checkpoint, name: str, kind: type[torch.nn.Module]) -> Any:
    """A network of diffusers, frozen and in float32; ModelError where its weights do not fit."""
    part = checkpoint.parts[name]
    weights = load_weights(checkpoint.path, part.names)
    return build_part(kind, part.config, weights, checkpoint.path).eval().requires_grad_(False)


def clip_weights(path: Path, part: Part) -> dict[str, Tensor]:
    """A text encoder's weights as transformers has them.

    OpenCLIP keeps the three projections of an attention in one tensor, and its last one the other way round.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in load_weights(path, part.names).items():
        module, _, leaf = name.rpartition(".in_proj_")
        if module:
            if tensor.ndim == 0 or len(tensor) % 3:
                raise ModelError(f"{path}: the tensor {name!r} is not three projections; get the file again")
            for projection, weight in zip("qkv", tensor.chunk(3), strict=True):
                weights[f"{module}.{projection}_proj.{leaf}"] = weight.contiguous()
        else:
            weights[name] = tensor.T.contiguous() if name == "text_projection.weight" else tensor
    return weights


def _flat(name: str, tensor: Tensor) -> Tensor:
    """LDM's autoencoder has the projections of its attention as convolutions of one pixel."""
    is_projection = "attentions" in name and tensor.ndim > 2
    return tensor.flatten(1) if is_projection else tensor
