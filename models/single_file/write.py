"""A model of Stable Diffusion's shape as the single file that other programs open."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from models.denoiser import betas_from_config
from models.errors import ModelError
from models.latent_diffusion import LatentDiffusionModel
from models.single_file.checkpoint import Checkpoint, describe
from models.single_file.families import OPEN_CLIP, SD1, SD2, SDXL, UNET, VAE, Family
from models.single_file.names import (
    OPEN_CLIP_INSIDE,
    UNET_INSIDE,
    VAE_INSIDE,
    open_clip_modules,
    renamed,
    reversed_table,
    unet_modules,
    vae_modules,
)
from models.single_file.shapes import CLIP
from models.text_encoder import TextEncoder
from models.text_pair import TextEncoderPair
from models.weights import TensorEntry
from models.writing import save_weights

VOCABULARY = 49_408
# Settings that change no picture: what a network is trained or computed with, or asked for by its user.
WITHOUT_EFFECT = {"sample_size", "dropout", "upcast_attention", "force_upcast", "architectures"}
PROJECTION = ("text_projection.weight",)


def write_single_file(model: LatentDiffusionModel, path: Path) -> None:
    """Write denoiser, autoencoder and text encoders in LDM's layout and in half precision.

    Raises ModelError, before anything is written, for a model that the programs which read such files would
    build otherwise than it is: they know the network by the shapes of its tensors, as we do.
    """
    encoders = _text_encoders(model)
    family = _family(encoders)
    networks = {"unet": model.denoiser.unet, "vae": model.autoencoder.vae, **encoders}
    tensors = ldm_tensors(networks, family)
    if model.denoiser.prediction_type == "v_prediction" and family is not SD2:
        tensors["v_pred"] = torch.zeros(0)
    is_v = model.denoiser.prediction_type == "v_prediction"
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": family.architecture + ("/inpainting" if model.image_condition else ""),
        "modelspec.title": model.name,
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.resolution": f"{model.defaults.width}x{model.defaults.height}",
    }
    entries = {name: TensorEntry("F16", tuple(tensor.shape)) for name, tensor in tensors.items()}
    read = describe(path, entries, metadata)
    _check_process(model, read)
    for part, network in networks.items():
        _check_network(model.name, part, network, read.parts[part].config)
    save_weights(path, tensors, torch.float16, metadata)


def ldm_tensors(networks: Mapping[str, Any], family: Family) -> dict[str, Tensor]:
    """The tensors of networks, which are named as the folders of a model folder are, by the names of LDM."""
    tensors = {UNET + name: tensor for name, tensor in _unet(networks["unet"]).items()}
    tensors |= {VAE + name: tensor for name, tensor in _vae(networks["vae"]).items()}
    for part, prefix in family.encoders.items():
        named = _open_clip(networks[part]) if prefix.endswith(f".{OPEN_CLIP}") else _clip(networks[part])
        tensors |= {prefix + name: tensor for name, tensor in named.items()}
    return tensors


def _text_encoders(model: LatentDiffusionModel) -> dict[str, Any]:
    encoder = model.text_encoder
    if not isinstance(encoder, TextEncoder) or not encoder.is_clip or len(encoder.tokenizer) != VOCABULARY:
        raise ModelError(
            f"{model.name} does not read words with CLIP, as every program does that opens such files; "
            "export it as a folder"
        )
    second = {"text_encoder_2": encoder.second} if isinstance(encoder, TextEncoderPair) else {}
    return {"text_encoder": encoder.encoder, **second}


def _family(encoders: Mapping[str, Any]) -> Family:
    if len(encoders) > 1:
        return SDXL
    return SD2 if encoders["text_encoder"].config.hidden_act == "gelu" else SD1


def _unet(unet: Any) -> dict[str, Tensor]:
    attends = ["Attn" in kind for kind in unet.config.down_block_types]
    table = reversed_table(unet_modules(attends, unet.config.layers_per_block))
    inside = reversed_table(UNET_INSIDE)
    return {renamed(name, table, inside): tensor for name, tensor in unet.state_dict().items()}


def _vae(vae: Any) -> dict[str, Tensor]:
    table = reversed_table(vae_modules(len(vae.config.block_out_channels), vae.config.layers_per_block))
    inside = reversed_table(VAE_INSIDE)
    weights = {}
    for name, tensor in vae.state_dict().items():
        is_projection = ".attentions." in name and tensor.ndim == 2
        weights[renamed(name, table, inside)] = tensor[:, :, None, None] if is_projection else tensor
    return weights


def _clip(encoder: Any) -> dict[str, Tensor]:
    """By the names in transformers' files, which its models by now have without `text_model.`."""
    weights = encoder.state_dict().items()
    return {
        name if name in PROJECTION else CLIP + name.removeprefix(CLIP): tensor for name, tensor in weights
    }


def _open_clip(encoder: Any) -> dict[str, Tensor]:
    table = reversed_table(open_clip_modules(encoder.config.num_hidden_layers))
    inside, own, weights = reversed_table(OPEN_CLIP_INSIDE), _clip(encoder), {}
    for name, tensor in own.items():
        if ".self_attn.q_proj." in name:
            rows = [own[name.replace("q_proj", f"{projection}_proj")] for projection in "qkv"]
            weights[renamed(name.replace("q_proj.", "in_proj_"), table, inside)] = torch.cat(rows)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            weights[renamed(name, table, inside)] = tensor.T if name in PROJECTION else tensor
    return weights


def _check_process(model: LatentDiffusionModel, read: Checkpoint) -> None:
    wanted = torch.cumprod(1 - betas_from_config(read.scheduler), dim=0)
    own = model.denoiser.alphas_cumprod
    if own.shape != wanted.shape or not torch.allclose(own, wanted, rtol=1e-4):
        raise ModelError(
            f"{model.name} was trained on another noise process than Stable Diffusion, which no program "
            "could tell from a single file; export it as a folder"
        )
    if model.image_condition is not None and model.image_condition.kind != "inpaint":
        raise ModelError(f"{model.name} enlarges pictures, as no single file does; export it as a folder")


def _check_network(name: str, part: str, network: Any, read: Mapping[str, Any]) -> None:
    """ModelError where a network differs from the one that a reader of the file would build."""
    kinds: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    own = dict(network.config if part in kinds else network.config.to_dict())
    if part in kinds:
        known = inspect.signature(kinds[part].__init__).parameters
        try:
            with torch.device("meta"):
                whole = kinds[part](**{key: value for key, value in read.items() if key in known})
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{name} is not shaped as Stable Diffusion: its {part} has other layers ({error}); export it "
                "as a folder"
            ) from error
        read = {key: value for key, value in whole.config.items() if key in known}
    for key, value in read.items():
        if key not in WITHOUT_EFFECT and _plain(own.get(key), value) != _plain(value, own.get(key)):
            raise ModelError(
                f"{name} is not shaped as Stable Diffusion: {key} of its {part} is {own.get(key)!r}, and who "
                f"reads the file would take {value!r}; export it as a folder"
            )


def _plain(value: Any, other: Any) -> Any:
    """A setting as a list where the other is one: diffusers takes one value for all levels, too."""
    if isinstance(value, list | tuple):
        return list(value)
    return [value] * len(other) if isinstance(other, list | tuple) else value
