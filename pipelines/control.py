"""Drawing that pictures guide: what ControlNets add to the UNet, in the steps where each of them acts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models.denoiser import Runner, UNetRunner, added_conditions
from models.text_encoder import TextStates
from pipelines.canvas import Canvas
from pipelines.control_picture import control_picture
from pipelines.inputs import InputStore
from pipelines.request_control import ControlInput


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """A ControlNet, what it is shown, (1, 3, H, W) in [0, 1], and how strongly and when it acts."""

    net: nn.Module
    pixels: Tensor
    asked: ControlInput

    def residuals(self, z: Tensor, t: Tensor, states: TextStates) -> list[Tensor]:
        """What is added to each output of the UNet's encoder, and last to that of its middle block.

        Of z (B, C or more, h, w) it sees the latents alone, not what inpainting models are shown besides.
        """
        config: Any = self.net.config
        weight = next(self.net.parameters())
        down, middle = self.net(
            z[:, : config.in_channels].to(weight.dtype),
            t,
            encoder_hidden_states=states.hidden.to(weight.dtype),  # (B, T, D)
            controlnet_cond=self.pixels.to(weight).expand(len(z), -1, -1, -1),
            conditioning_scale=self.asked.scale,
            added_cond_kwargs=added_conditions(self.net, z, states),
            return_dict=False,
        )
        return [*down, middle]


class Control:
    """The ControlNets of a drawing: for each step the runner of the UNet with those that act in it."""

    def __init__(self, runner: Runner, guides: Sequence[Guide]) -> None:
        assert isinstance(runner, UNetRunner)  # no other takes residuals
        self._runner, self._guides = runner, guides

    def during(self, begins: float, ends: float) -> Runner:
        """The runner of a step that takes the schedule from one share of it to another."""
        acting = [one for one in self._guides if one.asked.start <= begins and ends <= one.asked.end]
        return partial(self._guided, acting) if acting else self._runner

    def _guided(self, acting: Sequence[Guide], z: Tensor, t: Tensor, states: TextStates) -> Tensor:
        each = [guide.residuals(z, t, states) for guide in acting]
        return self._runner(z, t, states, [torch.stack(same).sum(0) for same in zip(*each, strict=True)])


def open_guides(
    controls: Sequence[ControlInput],
    nets: Sequence[nn.Module],
    size: tuple[int, int],
    inputs: InputStore,
    canvas: Canvas | None,
) -> list[Guide]:
    """The nets with their pictures at a drawing of `size` (width, height), of the part that is drawn.

    Raises RequestError where a picture is missing.
    """
    whole, box = (None, None) if canvas is None else (canvas.whole.size, canvas.box)
    return [
        Guide(
            net, _pixels(control_picture(inputs.open(one.picture), one.preprocessor, size, whole, box)), one
        )
        for one, net in zip(controls, nets, strict=True)
    ]


def _pixels(image: Image.Image) -> Tensor:
    """An image as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
