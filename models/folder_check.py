"""What a model folder must be before anything in it is loaded; nothing here imports torch.

The folder has the layout of diffusers. It is data: it can name a class of our lists, never bring its own.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.defaults import INSTANT, ImageCondition, read_defaults, read_preview
from models.errors import ModelError
from models.text_families import FAMILIES, check_tokenizer
from models.weights import find_weights, read_header, read_json

PIPELINES = (
    "LatentStudioPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "LatentConsistencyModelPipeline",
)
PARTS = {  # part -> the classes it may be, and the library of each
    "vae": {"AutoencoderKL": "diffusers", "VQModel": "diffusers", "Pixels": "latent_studio"},
    "unet": {"UNet2DConditionModel": "diffusers"},
    INSTANT: {"UNet2DConditionModel": "diffusers"},
    "text_encoder": {family.model: "transformers" for family in FAMILIES.values()},
    "tokenizer": {
        f"{family.tokenizer}{suffix}": "transformers"
        for family in FAMILIES.values()
        for suffix in ("", "Fast")
    },
    "class_encoder": {"ClassEncoder": "latent_studio"},  # in the place of the two before it
}
SETTINGS = ("requires_safety_checker", "image_condition")  # entries of the index that are no parts
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")
PREDICTION_TYPES = ("epsilon", "v_prediction", "flow_prediction")
MAX_FILES = 1000


def check_model_folder(path: Path | str) -> None:
    """Raise ModelError, in one sentence, for a folder that load_model could not or should not load.

    Reads configs and the headers of the weights, never the weights: values and the last detail of shapes
    are load_model's to refuse.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; name one that holds model_index.json")
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"{folder} is no model folder: it holds no model_index.json")
    check_files(folder)
    index = _check_index(folder / "model_index.json")
    encoder = "class_encoder" if "class_encoder" in index else "text_encoder"
    vae, text = (_check_part(folder / name) for name in ("vae", encoder))
    for name in ("unet", INSTANT) if (folder / INSTANT).is_dir() else ("unet",):
        _check_fit(folder / name, vae, _check_part(folder / name), text, ImageCondition.from_index(index))
    if encoder == "text_encoder":
        check_tokenizer(folder / "tokenizer")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    kind = read_json(scheduler).get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise ModelError(
            f"{scheduler}: this model predicts {kind!r}; known are {', '.join(PREDICTION_TYPES)}"
        )
    read_defaults(folder)
    read_preview(folder, latent_channels(vae))


def check_class(folder: Path) -> str:
    """The class of the part in `folder`; ModelError unless it is one that this part may be."""
    file = folder / "config.json"
    name, allowed = read_json(file).get("_class_name"), PARTS[folder.name]
    if not isinstance(name, str) or name not in allowed:
        raise ModelError(f"{file}: the class {name!r} is not allowed here; use {' or '.join(allowed)}")
    return name


def latent_channels(vae_config: Mapping[str, Any]) -> Any:
    """How many channels an autoencoder's latents have, by its config.json; unchecked."""
    return vae_config.get("vq_embed_dim") or vae_config.get("latent_channels")


def find_models(root: Path | str) -> list[Path]:
    """Model folders below `root`, at most three levels deep, in order of their paths, unchecked."""
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        if "model_index.json" in files:
            found.append(Path(folder))
        below_root = len(Path(folder).relative_to(root).parts)
        hidden = {name for name in names if name.startswith(".")}
        names[:] = [] if "model_index.json" in files or below_root == 3 else sorted(set(names) - hidden)
    return sorted(found)


def model_name(folder: Path) -> str:
    """The folder's own name, or the run's for a training run's `model/`."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def folder_state(path: Path | str) -> tuple[tuple[str, int, int, int], ...]:
    """What tells whether a model was replaced, without reading it: its files' names, sizes, times and inodes.

    Covers weights and JSON, which are replaced whole; empty where there is no folder.
    """
    folder, state = Path(path), []
    for file in sorted(file for suffix in ("safetensors", "json") for file in folder.rglob(f"*.{suffix}")):
        try:
            found = file.stat()
        except FileNotFoundError:  # replaced at this moment, or a link that leads nowhere
            continue
        state.append((str(file.relative_to(folder)), found.st_size, found.st_mtime_ns, found.st_ino))
    return tuple(state)


def check_files(folder: Path) -> None:
    """Nothing executable, and no way out of the folder."""
    home, count = folder.resolve(), 0
    for parent, names, files in os.walk(folder):
        for name in (*names, *files):
            file, count = Path(parent) / name, count + 1
            if count > MAX_FILES:
                raise ModelError(f"{folder} holds more than {MAX_FILES} files; it is no model folder")
            if file.is_symlink() and not file.resolve().is_relative_to(home):
                raise ModelError(f"{file} points out of the model folder; put a copy in its place")
            if file.suffix.lower() in (".py", ".pyc", ".so", ".pyd"):
                raise ModelError(f"{file} is program code, which a model folder may not hold; remove it")


def _check_index(file: Path) -> dict[str, Any]:
    """The index, once it names only parts that we know, of classes that we list."""
    index = read_json(file)
    name = index.get("_class_name")
    if name not in PIPELINES:
        raise ModelError(
            f"{file}: models of the kind {name!r} are not supported; known are {', '.join(PIPELINES)}"
        )
    encoder = ("class_encoder",) if "class_encoder" in index else ("text_encoder", "tokenizer")
    for part in ("vae", "unet", *encoder, "scheduler"):
        if part not in index:
            raise ModelError(f"{file} does not name the part {part!r}; the model folder is incomplete")
    for part, entry in index.items():
        if part.startswith("_") or part in SETTINGS or part in UNUSED_PARTS:
            continue
        if not isinstance(entry, list) or len(entry) != 2:
            raise ModelError(f"{file}: {part!r} is not a part that is known; use another model")
        if part == "scheduler":  # never built from: its config is read for the noise process alone
            known = entry[0] == "diffusers"
        else:
            known = [entry[1], entry[0]] in map(list, PARTS.get(part, {}).items())
        if not known:
            raise ModelError(f"{file}: {part!r} asks for {entry[0]}.{entry[1]}, which is not allowed here")
    return index


def _check_part(folder: Path) -> dict[str, Any]:
    """The config of a part, once its class is one of ours and its weights have a sound header."""
    file = folder / "config.json"
    config = read_json(file)
    if folder.name == "text_encoder":
        name = config.get("model_type")
        if not isinstance(name, str) or name not in FAMILIES:
            raise ModelError(
                f"{file}: the text encoder {name!r} is not known; use one of {', '.join(FAMILIES)}"
            )
    else:
        check_class(folder)
    read_header(find_weights(folder))
    return config


def _check_fit(
    folder: Path,
    vae: Mapping[str, Any],
    unet: Mapping[str, Any],
    text: Mapping[str, Any],
    image: ImageCondition | None,
) -> None:
    """The parts must fit the UNet in `folder`, which needs no input that we do not give."""
    latents, text_dim = (
        latent_channels(vae),
        text.get("hidden_size", text.get("d_model", text.get("dim"))),
    )
    if type(latents) is not int or latents < 1:
        raise ModelError(
            f"{folder.parent}/vae/config.json: latent_channels = {latents!r} is no count; get the file again"
        )
    shown = 0 if image is None else 1 + latents
    for name, wanted in (("in_channels", latents + shown), ("out_channels", latents)):
        if unet.get(name) != wanted:
            raise ModelError(
                f"{folder}: {name} = {unet.get(name)!r}, the autoencoder {latents} latent "
                f"channels, which need {wanted}; this kind of model is not supported"
            )
    for name, allowed in (
        ("class_embed_type", (None, "simple_projection")),
        ("addition_embed_type", (None,)),
    ):
        if unet.get(name) not in allowed:
            raise ModelError(f"{folder}: {name} = {unet[name]!r} is not supported; use another model")
    reads = unet.get("encoder_hid_dim") or unet.get("cross_attention_dim")
    widths = reads if isinstance(reads, list) else [reads]
    if unet.get("class_embed_type") is not None:
        widths = [*widths, unet.get("projection_class_embeddings_input_dim")]
    for width in widths:
        if width != text_dim:
            raise ModelError(
                f"{folder} reads text of {width!r} numbers a token, the text encoder gives "
                f"{text_dim!r}; they do not belong together"
            )
