"""Networks whose weights rest in their files while OpenVINO draws, or they would be in memory twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from models.defaults import INSTANT
from models.errors import ModelError
from models.folder import load_autoencoder, load_model, model_id
from models.latent_diffusion import LatentDiffusionModel

CODERS = ("encoder", "decoder", "quant_conv", "post_quant_conv")  # of an autoencoder; VQ's codes stay


def fall_asleep(model: LatentDiffusionModel) -> None:
    """Give the memory of a model's UNet and autoencoder back; whoever runs one of them wakes it."""
    networks: list[tuple[nn.Module, Any]] = [(model.denoiser.unet, wake)]
    networks += [(coder, wake_autoencoder) for _, coder in _coders(model)]
    for network, waken in networks:
        nn.Module.to(network, "meta")
        network.register_forward_pre_hook(lambda *_, waken=waken: waken(model))


def wake(model: LatentDiffusionModel) -> None:
    """Read the weights of a UNet that fell asleep; ModelError where the model was replaced meanwhile."""
    unet = model.denoiser.unet
    if not _sleeps(unet):
        return
    there = load_model(model.path)
    for one in filter(None, (there, there.instant)):
        if one.model_id == model.model_id:
            unet.load_state_dict(one.denoiser.unet.state_dict(), assign=True)
            return
    raise _replaced(model)


def wake_autoencoder(model: LatentDiffusionModel) -> None:
    """As `wake`, of the autoencoder alone."""
    sleeping = [(name, coder) for name, coder in _coders(model) if _sleeps(coder)]
    if not sleeping:
        return
    denoisers = ["unet", *([INSTANT] if (Path(model.path) / INSTANT).is_dir() else [])]
    if model.model_id not in [model_id(model.path, denoiser) for denoiser in denoisers]:
        raise _replaced(model)
    there = load_autoencoder(model.path).vae
    for name, coder in sleeping:
        coder.load_state_dict(getattr(there, name).state_dict(), assign=True)


def awake(model: LatentDiffusionModel) -> LatentDiffusionModel:
    """The model, and its student, with all their weights in memory."""
    for one in filter(None, (model, model.instant)):
        wake(one)
        wake_autoencoder(one)
    return model


def _coders(model: LatentDiffusionModel) -> Iterator[tuple[str, nn.Module]]:
    for name in CODERS:
        if isinstance(coder := getattr(model.autoencoder.vae, name, None), nn.Module):
            yield name, coder


def _sleeps(network: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in network.parameters())


def _replaced(model: LatentDiffusionModel) -> ModelError:
    return ModelError(f"{model.path} was replaced since it was opened; draw again to open the new one")
