"""A whole model in memory: what turns words into a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.defaults import GenerationDefaults, ImageCondition, LatentPreview

if TYPE_CHECKING:
    from models.autoencoder import Autoencoder
    from models.class_encoder import ConditionEncoder
    from models.denoiser import Denoiser


@dataclass(frozen=True, slots=True)
class VaeFile:
    """The file of an autoencoder that is not the model's own: its name, and how its SHA-256 begins."""

    name: str
    hash: str


@dataclass(frozen=True)
class LatentDiffusionModel:
    """Everything that turns words into a picture; `model_id` changes with any weight or config.

    `text_encoder` reads the prompt: words, or the name of a class. `image_condition` is None for models that
    draw from the prompt alone. `instant` is the same model with its student as denoiser, and the student's
    own defaults and id; None where there is no student. `vae` says which file the autoencoder is of where it
    is not the model's own.
    """

    name: str
    path: Path
    model_id: str
    autoencoder: "Autoencoder"
    denoiser: "Denoiser"
    text_encoder: "ConditionEncoder"
    defaults: GenerationDefaults
    preview: LatentPreview | None
    image_condition: ImageCondition | None = None
    instant: "LatentDiffusionModel | None" = None
    vae: VaeFile | None = None
