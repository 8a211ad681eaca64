"""What an engine tells while it draws, and what it gives back. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepEvent:
    """One sampling step of images `image_index` .. `image_index + images - 1` (one batch) is done.

    `step` counts from 1 to `total`, whatever the number of model calls in a step. The tensors are references,
    (images, C, h, w) float32, None where an engine cannot give them: `latents` is what the model saw in this
    step, variance-preserving, at noise level `sigma` (noise to signal), and `denoised` the clean latents it
    predicted from that; epsilon follows as (latents * sqrt(1 + sigma^2) - denoised) / sigma. `sample` are the
    same latents as the sampler has them, to the bit: `latents` itself, or latents at the scale of sigma.
    `previews` are small pictures of the images of the batch, from an engine that has them and no tensors.
    """

    image_index: int
    images: int
    step: int
    total: int
    sigma: float
    latents: "torch.Tensor | None"
    denoised: "torch.Tensor | None"
    sample: "torch.Tensor | None" = None
    previews: "tuple[Image.Image, ...]" = ()

    def fraction_done(self, count: int) -> float:
        """How much of a job of `count` images is done, 0 to 1."""
        return (self.image_index + self.images * self.step / self.total) / count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerationResult:
    """The finished pictures of a request (image i has seed + i), what drew them and in how many seconds.

    `pictures` are the requests of each alone, with the prompt it was drawn from. `note` says, in a sentence,
    why another engine drew them than the one that was chosen; mostly it is empty. `embeddings` are the
    learned words in their prompts, each with its file's hash, `vae` is the file of the autoencoder, where it
    is not the model's own, by name and hash.
    """

    images: "list[Image.Image]"
    request: GenerationRequest
    model_name: str
    model_id: str
    engine: str
    seconds: float
    pictures: tuple[GenerationRequest, ...] = ()
    note: str = ""
    embeddings: str = ""
    vae: tuple[str, str] = ("", "")

    @property
    def drawn_by(self) -> dict[str, str]:
        """The engine; the note, the embeddings and the autoencoder where there are any."""
        said = {
            "note": self.note,
            "embeddings": self.embeddings,
            "vae": self.vae[0],
            "vae_hash": self.vae[1],
        }
        return {"engine": self.engine} | {key: words for key, words in said.items() if words}

    def __post_init__(self) -> None:
        if not self.pictures:
            pictures = tuple(self.request.for_image(index) for index in range(len(self.images)))
            object.__setattr__(self, "pictures", pictures)
