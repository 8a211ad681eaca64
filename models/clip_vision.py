"""CLIP's picture side from a local transformers folder: projected features (Radford et al. 2103.00020)."""

from pathlib import Path
from typing import Any, NoReturn, Self, cast

import torch.nn.functional as F
from torch import Tensor, nn, tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, PreTrainedConfig

from models.config_keys import checked_config
from models.errors import ModelError
from models.weights import build_module, find_weights, load_weights, read_json

PARTS = ("vision_model.", "visual_projection.")  # what a whole CLIP has beside them reads words
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the latter since transformers 5
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers


class ClipVision(nn.Module):
    """The vision tower with its projection, frozen, and how its folder says that pictures are prepared.

    `resized` and `cropped` are sides in pixels, `mean` and `std` those of pixels in [0, 1].
    """

    def __init__(
        self, clip: Any, resized: int, cropped: int, mode: str, mean: list[float], std: list[float]
    ) -> None:
        super().__init__()
        self.clip = clip
        self.resized, self.cropped, self.mode, self.mean, self.std = resized, cropped, mode, mean, std

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Read a folder of CLIPModel or CLIPVisionModelWithProjection; float32, on the CPU.

        Raises: ModelError for another architecture, weights that do not fit or are no safetensors, and a
        preparation of pictures that is not known.
        """
        config_file, weights_file = Path(folder) / "config.json", find_weights(Path(folder))
        settings = read_json(config_file)
        if settings.get("model_type") == "clip":
            vision = settings.get("vision_config")
            known = vision if isinstance(vision, dict) else {}
            settings = {**known, "projection_dim": settings.get("projection_dim", 512)}
        # Folders of earlier transformers list every generation setting there was; none changes the features.
        fields = set(CLIPVisionConfig.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
        config = checked_config(settings, fields, set(settings), config_file)
        weights = {
            name: value for name, value in load_weights(weights_file).items() if name.startswith(PARTS)
        }
        clip = cast(
            Any,
            build_module(
                lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**config)), weights, weights_file
            ),
        )
        resized, cropped, mode, mean, std = _preparation(Path(folder))
        if cropped != clip.config.image_size:
            raise ModelError(
                f"{folder} prepares pictures of {cropped} pixels, its network reads "
                f"{clip.config.image_size}; get the folder again"
            )
        network = cls(clip, resized, cropped, mode, mean, std)
        return network.eval().requires_grad_(False)

    def embed(self, pixels: Tensor) -> Tensor:
        """Projected features (B, D), of no fixed length, of square pixels (B, 3, H, H) in [-1, 1]."""
        if pixels.shape[2:] != (self.resized, self.resized):
            size = (self.resized, self.resized)
            pixels = F.interpolate(pixels, size, mode=self.mode, antialias=True).clamp(-1, 1)
        edge = (self.resized - self.cropped) // 2
        pixels = pixels[:, :, edge : edge + self.cropped, edge : edge + self.cropped]
        mean, std = (tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        features: Tensor = self.clip(pixel_values=(pixels * 0.5 + 0.5 - mean) / std).image_embeds
        return features


def _preparation(folder: Path) -> tuple[int, int, str, list[float], list[float]]:
    """Side that pictures are resized to, side of the centre that is read, interpolation, mean and std."""
    file = next((folder / name for name in PREPROCESSING if (folder / name).is_file()), None)
    if file is None:
        raise ModelError(f"{folder} holds no {PREPROCESSING[0]}, which says how pictures are prepared")
    settings = read_json(file)
    settings = settings.get("image_processor", settings)

    def refuse(name: str) -> NoReturn:
        raise ModelError(f"{file}: {name} = {settings.get(name)!r} is not understood; get the file again")

    def side(name: str) -> int:
        value = settings.get(name)
        sides = set(value.values()) if isinstance(value, dict) else {value}
        number = sides.pop() if len(sides) == 1 else None
        if type(number) is not int or not 1 <= number <= 2048:
            refuse(name)
        return number

    def three(name: str) -> list[float]:
        value = settings.get(name)
        if not isinstance(value, list) or len(value) != 3 or any(type(v) not in (int, float) for v in value):
            refuse(name)
        return value

    for name in ("do_resize", "do_rescale", "do_normalize"):
        if settings.get(name, True) is not True:
            refuse(name)
    if settings.get("resample") not in RESAMPLING:
        refuse("resample")
    resized, mean, std = side("size"), three("image_mean"), three("image_std")
    cropped = side("crop_size") if settings.get("do_center_crop", True) else resized
    if cropped > resized:
        refuse("crop_size")
    if min(std) <= 0:
        refuse("image_std")
    return resized, cropped, RESAMPLING[settings["resample"]], mean, std
