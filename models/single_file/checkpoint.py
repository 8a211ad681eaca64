"""What a single file of Stable Diffusion is, told from its header alone: its family, configs and names.

Nothing here imports torch, and no weight is read: the header of SDXL is read in milliseconds.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.other_forms import refuse_other_form
from models.single_file import shapes
from models.single_file.families import (
    FAMILIES,
    OPEN_CLIP,
    SD2,
    SIDE_OF_V,
    UNET,
    VAE,
    Family,
    family_of,
    other_kind,
)
from models.weights import TensorEntry, read_header, read_json, read_metadata

SUFFIX = ".safetensors"
SIDECAR = ".generation_defaults.json"
MAX_YAML_BYTES = 100_000
TOKENIZER = Path(__file__).with_name("tokenizer")
OPENED = f"{', '.join(one.name for one in FAMILIES[:-1])} and {FAMILIES[-1].name} are opened"
PREDICTIONS = {"eps": "epsilon", "epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A network of a file: the names of its tensors there and in a model folder, its config, its size."""

    names: Mapping[str, str]
    config: Mapping[str, Any]
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole model in one file; `parts` are named as the folders of a model folder are.

    `inpaint` ones are shown a picture with a part to paint; `side` in pixels is what it was trained on.
    """

    path: Path
    family: Family
    parts: Mapping[str, Part]
    scheduler: Mapping[str, Any]
    inpaint: bool
    side: int


def is_single_file(path: Path | str) -> bool:
    """Whether a model is a file and no folder."""
    return Path(path).is_file()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file's header, once for as long as it and what lies beside it do not change.

    Raises ModelError, in one sentence, for whatever is no sound Stable Diffusion 1, 2 or SDXL in safetensors.
    """
    file = Path(path)
    refuse_others(file)
    try:
        there = [found.stat() for found in (file, *beside(file)) if found.is_file()]
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); get the file again") from error
    return _read(file, tuple((one.st_size, one.st_mtime_ns, one.st_ino) for one in there))


@functools.lru_cache(maxsize=64)
def _read(file: Path, _state: object) -> Checkpoint:
    return describe(file, read_header(file), read_metadata(file))


def describe(file: Path, entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> Checkpoint:
    """What a file with such a header is; ModelError where it is none that is opened."""
    kind, family = other_kind(entries), family_of(entries)
    if kind is not None:
        raise ModelError(f"{file} is {kind}; of models in one file, {OPENED}")
    if family is None:
        raise ModelError(f"{file} is no model that is known here, by its tensors; of such files, {OPENED}")
    prediction = _prediction(file, family, entries, metadata)
    side = SIDE_OF_V if (family, prediction) == (SD2, "v_prediction") else family.side
    networks: dict[str, tuple[str, shapes.Network]] = {
        "unet": (UNET, shapes.unet(_shapes(file, entries, UNET), family, side)),
        "vae": (VAE, shapes.vae(_shapes(file, entries, VAE), family.scaling_factor, side)),
    }
    for part, prefix in family.encoders.items():
        open_clip = prefix.endswith(f".{OPEN_CLIP}")
        network = shapes.text_encoder(_shapes(file, entries, prefix), family, open_clip)
        networks[part] = (prefix, network)
    unet, latents = networks["unet"][1][1], networks["vae"][1][1]["latent_channels"]
    if unet["in_channels"] not in (latents, 2 * latents + 1) or unet["out_channels"] != latents:
        raise ModelError(
            f"{file}: its denoiser takes {unet['in_channels']} channels and gives {unet['out_channels']}, "
            f"its autoencoder has {latents}; text-to-image and inpainting models are opened"
        )
    width = sum(networks[part][1][1]["hidden_size"] for part in family.encoders)
    if unet["cross_attention_dim"] != width:
        raise ModelError(
            f"{file}: its denoiser reads text of {unet['cross_attention_dim']} numbers a token, its text "
            f"encoder gives {width}; they do not belong together"
        )
    if (added := unet.get("projection_class_embeddings_input_dim")) is not None:
        pooled = networks.get("text_encoder_2", ("", ({}, {})))[1][1].get("projection_dim")
        if pooled is None or (added - pooled) % 6 or added <= pooled:
            raise ModelError(f"{file}: its denoiser reads more than words and sizes; this kind is not opened")
        unet["addition_time_embed_dim"] = (added - pooled) // 6  # six numbers say how a picture was cut
    return Checkpoint(
        path=file,
        family=family,
        parts={name: _part(entries, *found) for name, found in networks.items()},
        scheduler={
            "_class_name": "DDIMScheduler",
            "prediction_type": prediction,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "num_train_timesteps": 1000,
            "rescale_betas_zero_snr": "ztsnr" in entries,
        },
        inpaint=unet["in_channels"] != latents,
        side=side,
    )


def read_vae(path: Path | str, scaling_factor: float) -> Part:
    """The autoencoder of a file that holds it alone, by the names of LDM or of diffusers, or a whole model.

    How large its latents are is not in it: `scaling_factor` is that of the model that it is for.
    Raises ModelError where the file holds none.
    """
    file = Path(path)
    refuse_others(file)
    entries = read_header(file)
    prefix = VAE if any(name.startswith(VAE) for name in entries) else ""
    if f"{prefix}decoder.conv_in.weight" not in entries:
        kind = other_kind(entries) or "no autoencoder, by its tensors"
        raise ModelError(f"{file} is {kind}; name a VAE of Stable Diffusion")
    return _part(entries, prefix, shapes.vae(_shapes(file, entries, prefix), scaling_factor, SD2.side))


def refuse_others(file: Path) -> None:
    """ModelError for a file that is no safetensors by its name or first bytes, and what to do about it."""
    try:
        refuse_other_form(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); name another file") from error
    if file.suffix.lower() != SUFFIX:
        raise ModelError(f"{file} is no model folder, and a model in one file ends in {SUFFIX}")


def sidecar(file: Path) -> Path:
    """Where a person may say how a single file draws best: a JSON file of its name beside it."""
    return file.with_name(f"{file.stem}{SIDECAR}")


def beside(file: Path) -> tuple[Path, Path]:
    """What may lie beside a file and say how to draw with it: the sidecar, and AUTOMATIC1111's config."""
    return sidecar(file), file.with_suffix(".yaml")


def _prediction(
    file: Path, family: Family, entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]
) -> str:
    """What the denoiser predicts, which no shape tells: by what people and programs say beside or in a file.

    In this order: the sidecar, the config that AUTOMATIC1111 reads beside a file, the mark that trainers of v
    put into it (an empty tensor `v_pred`), its metadata (modelspec), and what most of its family do: of
    Stable Diffusion 2 the text-to-image model of 768 pixels predicts v, all others epsilon.
    """
    ours, theirs = beside(file)
    if ours.is_file() and "prediction_type" in (said := read_json(ours)):
        if said["prediction_type"] not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"{ours}: prediction_type = {said['prediction_type']!r} is neither epsilon nor "
                "v_prediction; correct it"
            )
        return str(said["prediction_type"])
    if theirs.is_file():
        with theirs.open("rb") as opened:
            told = re.search(rb"parameterization:\s*[\"']?(\w+)", opened.read(MAX_YAML_BYTES))
        return PREDICTIONS.get(told[1].decode("ascii", "replace") if told else "eps", "epsilon")
    if "v_pred" in entries:
        return "v_prediction"
    if (told_by := metadata.get("modelspec.prediction_type")) in PREDICTIONS:
        return PREDICTIONS[told_by]
    first = entries.get(f"{UNET}input_blocks.0.0.weight")
    inpaint = first is not None and first.shape[1:2] != (4,)
    v_by_default = family is SD2 and not inpaint and metadata.get("modelspec.resolution") != "512x512"
    return "v_prediction" if v_by_default else "epsilon"


def _shapes(file: Path, entries: Mapping[str, TensorEntry], prefix: str) -> shapes.Shapes:
    found = {
        name.removeprefix(prefix): entry.shape
        for name, entry in entries.items()
        if name.startswith(prefix) and not name.endswith("position_ids")
    }
    return shapes.Shapes(found, file)


def _part(entries: Mapping[str, TensorEntry], prefix: str, network: shapes.Network) -> Part:
    names, config = network
    whole = {prefix + name: ours for name, ours in names.items()}
    return Part(names=whole, config=config, parameters=sum(entries[name].parameters for name in whole))
