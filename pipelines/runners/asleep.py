"""A UNet whose weights rest in their file while OpenVINO draws, or they would be in memory twice."""

from typing import Any

from torch import nn

from models.errors import ModelError
from models.folder import LatentDiffusionModel, load_model


def fall_asleep(model: LatentDiffusionModel) -> None:
    """Give the memory of a model's UNet back; whoever runs it wakes it."""
    unet: Any = model.denoiser.unet
    nn.Module.to(unet, "meta")
    unet.register_forward_pre_hook(lambda *_: wake(model))


def wake(model: LatentDiffusionModel) -> None:
    """Read the weights of a UNet that fell asleep; ModelError where the model was replaced meanwhile."""
    unet = model.denoiser.unet
    if not next(unet.parameters()).is_meta:
        return
    there = load_model(model.path)
    for one in filter(None, (there, there.instant)):
        if one.model_id == model.model_id:
            unet.load_state_dict(one.denoiser.unet.state_dict(), assign=True)
            return
    raise ModelError(f"{model.path} was replaced since it was opened; draw again to open the new one")
