"""What a model folder says of itself: by its configs, its card and the headers of its weights. No torch."""

import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from models.defaults import INSTANT, ImageCondition, pixels_a_latent
from models.folder_check import latent_channels
from models.weights import find_weights, read_header, read_json

PARTS = ("unet", INSTANT, "vae", "text_encoder", "text_encoder_2", "class_encoder")
MAX_CARD_BYTES, MAX_CHARACTERS = 200_000, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Parameters by part, what the parts are, where they come from; "" for what is not said.

    `codes` is how many entries the codebook of a VQ autoencoder has, 0 for others; `classes` is how many a
    model draws that reads no words.
    """

    parameters: Mapping[str, int]
    size_bytes: int
    autoencoder: str
    factor: int
    channels: int
    codes: int
    prediction: str
    text_encoder: str
    classes: int
    shown: str
    data: str
    licence: str


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a model folder that `check_model_folder` finds nothing wrong with; ModelError else."""
    vae = read_json(folder / "vae" / "config.json")
    index = read_json(folder / "model_index.json")
    classes = folder / "class_encoder" / "config.json"
    text_encoder = folder / "text_encoder" / "config.json"
    condition = ImageCondition.from_index(index)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    codes = vae.get("num_vq_embeddings")
    names = read_json(classes).get("classes") if classes.is_file() else ()
    data, licence = _card(folder / "README.md")
    return ModelFacts(
        parameters={
            part: sum(prod(entry.shape) for entry in read_header(find_weights(folder / part)).values())
            for part in PARTS
            if (folder / part).is_dir()
        },
        size_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        autoencoder=str(vae.get("_class_name")),
        factor=pixels_a_latent(vae),
        channels=int(latent_channels(vae) or 0),
        codes=codes if type(codes) is int else 0,
        prediction=str(scheduler.get("prediction_type", "epsilon")),
        text_encoder=str(read_json(text_encoder).get("model_type")) if text_encoder.is_file() else "",
        classes=len(names) if isinstance(names, list) else 0,
        shown="" if condition is None else condition.kind,
        data=data or _data_of_run(folder),
        licence=licence,
    )


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
