"""The seam between the pipeline and what computes its networks in the place of torch."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from models.text_encoder import TextStates
from pipelines.request import GenerationRequest


class Runner(Protocol):
    """The UNet and the decoder of one model; `name` is what its pictures say drew them."""

    name: str

    def unet(self, z: Tensor, t: Tensor, states: TextStates) -> Tensor:
        """The UNet's output (B, C, h, w) of z (B, C or more, h, w), t (B,) and text states of B rows."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1], of normalised latents (B, C, h, w)."""

    def why_not(self, pictures: Sequence[GenerationRequest]) -> str | None:
        """A sentence saying why torch draws these pictures, their prompts expanded; None if this does."""
