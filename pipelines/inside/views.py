"""Latents as small pictures: a step's three, and the channels one by one."""

import torch
from PIL import Image
from torch import Tensor

from models.defaults import LatentPreview
from pipelines.preview import preview_images
from pipelines.result import StepEvent

CHANNEL_RANGE = 3.0  # standard deviations either side of the mean, from black to white


def first_channels(channels: int) -> LatentPreview:
    """A preview for a model without one: the first three channels are red, green and blue."""
    rows = [tuple(0.4 * (channel == colour) for colour in range(3)) for channel in range(channels)]
    return LatentPreview(tuple(rows), (0.0, 0.0, 0.0))  # type: ignore[arg-type]


def step_pictures(event: StepEvent, preview: LatentPreview | None) -> list[Image.Image]:
    """Of a step of one picture: its noisy latents, the clean ones predicted, and what the two differ by.

    The difference is grey where they agree.
    """
    noisy, clean = event.latents, event.denoised
    assert noisy is not None
    assert clean is not None
    preview = preview or first_channels(clean.shape[1])
    difference = LatentPreview(preview.weight, (0.0, 0.0, 0.0))
    pictures = [preview_images(preview, latents, scale=1)[0] for latents in (noisy, clean)]
    return [*pictures, preview_images(difference, noisy - clean, scale=1)[0]]


def channel_pictures(latents: Tensor) -> list[Image.Image]:
    """Each channel of latents (1, C, h, w) as a grey picture, 0 in the middle."""
    grey = (latents[0].float().cpu() / CHANNEL_RANGE + 1) * 127.5  # (C, h, w)
    return [Image.fromarray(channel) for channel in grey.round().clamp(0, 255).to(torch.uint8).numpy()]
