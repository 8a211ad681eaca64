"""What a model folder says of itself: by its configs, its card and the headers of its weights. No torch."""

import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.defaults import INSTANT, pixels_a_latent
from models.folder_check import latent_channels
from models.parts import has_part, image_condition, part_config, part_parameters

PARTS = ("unet", INSTANT, "vae", "text_encoder", "text_encoder_2", "class_encoder")
FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}  # by the numbers of a token
MAX_CARD_BYTES, MAX_CHARACTERS = 200_000, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Parameters by part, what the parts are, where they come from; "" for what is not said.

    `codes` is how many entries the codebook of a VQ autoencoder has, 0 for others; `classes` is how many a
    model draws that reads no words. `family` is which Stable Diffusion it is.
    """

    parameters: Mapping[str, int]
    size_bytes: int
    autoencoder: str
    factor: int
    channels: int
    codes: int
    prediction: str
    text_encoder: str
    family: str
    classes: int
    shown: str
    data: str
    licence: str


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a model that `check_model_folder` finds nothing wrong with; ModelError else."""
    vae, scheduler = part_config(folder, "vae"), part_config(folder, "scheduler")
    classes, words = (
        part_config(folder, part) if has_part(folder, part) else {}
        for part in ("class_encoder", "text_encoder")
    )
    condition = image_condition(folder)
    codes, names = vae.get("num_vq_embeddings"), classes.get("classes")
    data, licence = _card(folder / "README.md")
    return ModelFacts(
        parameters={part: part_parameters(folder, part) for part in PARTS if has_part(folder, part)},
        size_bytes=sum(
            file.stat().st_size
            for file in ([folder] if folder.is_file() else folder.rglob("*"))
            if file.is_file()
        ),
        autoencoder=str(vae.get("_class_name")),
        factor=pixels_a_latent(vae),
        channels=int(latent_channels(vae) or 0),
        codes=codes if type(codes) is int else 0,
        prediction=str(scheduler.get("prediction_type", "epsilon")),
        text_encoder=str(words.get("model_type", "")),
        family=_family(part_config(folder, "unet")) if words else "",
        classes=len(names) if isinstance(names, list) else 0,
        shown="" if condition is None else condition.kind,
        data=data or _data_of_run(folder),
        licence=licence,
    )


def _family(unet: Mapping[str, Any]) -> str:
    """Which Stable Diffusion a denoiser is of, by what it reads; "" for none."""
    if unet.get("addition_embed_type") == "text_time":
        return "SDXL"
    width = unet.get("cross_attention_dim")
    return FAMILIES.get(width, "") if type(width) is int and unet.get("class_embed_type") is None else ""


def _card(file: Path) -> tuple[str, str]:
    """What a model card says of the training data and the licence.

    Of the card's front matter (`license`, `datasets`), as model hubs have it, and of a paragraph that begins
    with "Trained on".
    """
    try:
        text = file.read_bytes()[:MAX_CARD_BYTES].decode("utf-8", "replace")
    except OSError:
        return "", ""
    matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    front = matter[1] if matter else ""
    licence = re.search(r"^license: *(.+)$", front, re.MULTILINE)
    sets = re.search(r"^datasets: *(.*(?:\n *- .*)*)$", front, re.MULTILINE)
    trained = re.search(r"^\**Trained on\**:?\s(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if trained is not None:
        data = re.sub(r"[*`]", "", trained[1])
    else:
        data = ", ".join(re.findall(r"[^\s,\[\]\"'-][^\s,\[\]\"']*", sets[1])) if sets else ""
    return _short(data), _short(licence[1].strip("\"' ")) if licence else ""


def _data_of_run(folder: Path) -> str:
    """The folder of pictures that a run, whose `model/` this is, learns from."""
    try:
        settings: dict[str, Any] = tomllib.loads((folder.parent / "config.toml").read_text(encoding="utf-8"))
        return _short(str(settings["data"]["path"])) if folder.name == "model" else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _short(words: str) -> str:
    return textwrap.shorten(words, MAX_CHARACTERS, placeholder=" \N{HORIZONTAL ELLIPSIS}")
