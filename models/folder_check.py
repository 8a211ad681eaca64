"""What a model folder must be before anything in it is loaded; nothing here imports torch.

The folder has the layout of diffusers. It is data: it can name a class of our lists, never bring its own.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.defaults import INSTANT, ImageCondition, read_defaults, read_preview
from models.errors import ModelError
from models.other_forms import PICKLE_SUFFIXES
from models.single_file.checkpoint import SUFFIX, beside, is_single_file, read_checkpoint
from models.text_families import FAMILIES, PROJECTED, check_tokenizer
from models.weights import find_weights, read_header, read_json

PIPELINES = (
    "LatentStudioPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "LatentConsistencyModelPipeline",
)
NEWER = {  # how the pipelines of other families begin, and what these are called
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "FLUX",
    "StableCascade": "Stable Cascade",
    "PixArt": "PixArt",
    "Sana": "Sana",
    "QwenImage": "Qwen-Image",
    "HiDream": "HiDream",
    "HunyuanDiT": "Hunyuan-DiT",
    "Chroma": "Chroma",
    "AuraFlow": "AuraFlow",
    "Lumina": "Lumina",
    "ZImage": "Z-Image",
    "Kandinsky": "Kandinsky",
    "IF": "DeepFloyd IF",
    "Wan": "Wan",
}
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
    "text_encoder_2": {PROJECTED.model: "transformers"},
    "tokenizer_2": {"CLIPTokenizer": "transformers", "CLIPTokenizerFast": "transformers"},
    "class_encoder": {"ClassEncoder": "latent_studio"},  # in the place of those that read words
}
SETTINGS = (  # entries of the index that are no parts
    "requires_safety_checker",
    "image_condition",
    "force_zeros_for_empty_prompt",
    "requires_aesthetics_score",
    "add_watermarker",
)
UNUSED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")
PREDICTION_TYPES = ("epsilon", "v_prediction", "flow_prediction")
MAX_FILES = 1000
ENDINGS = (SUFFIX, *PICKLE_SUFFIXES)
PART_OF_MORE = {"config.json", "manifest.json"}  # beside weights of a network, or of a training


def check_model_folder(path: Path | str) -> None:
    """Raise ModelError, in one sentence, for a folder or file that load_model could not or should not load.

    Reads configs and the headers of the weights, never the weights: values and the last detail of shapes
    are load_model's to refuse.
    """
    if is_single_file(path):
        read_checkpoint(path)
        read_defaults(path)
        return
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(
            f"there is no model folder {folder}, and no file; name a folder that holds model_index.json, or "
            "a file of Stable Diffusion in safetensors"
        )
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"{folder} is no model folder: it holds no model_index.json")
    check_files(folder)
    index = _check_index(folder / "model_index.json")
    encoder = "class_encoder" if "class_encoder" in index else "text_encoder"
    vae, text = (_check_part(folder / name) for name in ("vae", encoder))
    second = _check_part(folder / "text_encoder_2") if "text_encoder_2" in index else None
    for name in ("unet", INSTANT) if (folder / INSTANT).is_dir() else ("unet",):
        unet, image = _check_part(folder / name), ImageCondition.from_index(index)
        _check_fit(folder / name, vae, unet, text, second, image)
    if encoder == "text_encoder":
        check_tokenizer(folder / "tokenizer")
    if second is not None:
        check_tokenizer(folder / "tokenizer_2")
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
    """Models below `root`, at most three levels deep, in order of their paths, unchecked.

    Beside model folders these are files that lie in none, and are no part of something else: also pickles, of
    which check_model_folder says what to do.
    """
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        if "model_index.json" in files:
            found.append(Path(folder))
        elif not PART_OF_MORE & set(files):
            found += [Path(folder) / name for name in files if Path(name).suffix.lower() in ENDINGS]
        below_root = len(Path(folder).relative_to(root).parts)
        hidden = {name for name in names if name.startswith(".")}
        names[:] = [] if "model_index.json" in files or below_root == 3 else sorted(set(names) - hidden)
    return sorted(found)


def model_name(folder: Path) -> str:
    """The folder's own name, or the run's for a training run's `model/`; a file's without its ending."""
    whole = folder.resolve()
    if is_single_file(whole):
        return whole.stem
    return whole.parent.name if whole.name == "model" else whole.name


def folder_state(path: Path | str) -> tuple[tuple[str, int, int, int], ...]:
    """What tells whether a model was replaced, without reading it: its files' names, sizes, times and inodes.

    Covers weights and JSON, which are replaced whole; empty where there is no folder.
    """
    folder, state = Path(path), []
    files = [file for suffix in ("safetensors", "json") for file in folder.rglob(f"*.{suffix}")]
    for file in [folder, *beside(folder)] if is_single_file(folder) else sorted(files):
        try:
            found = file.stat()
        except FileNotFoundError:  # replaced at this moment, or a link that leads nowhere
            continue
        name = file.relative_to(folder.parent) if is_single_file(folder) else file.relative_to(folder)
        state.append((str(name), found.st_size, found.st_mtime_ns, found.st_ino))
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
    newer = [family for begin, family in NEWER.items() if str(name).startswith(begin)]
    if newer:
        raise ModelError(
            f"{file}: this is a model of {newer[0]}, which is not supported; use Stable Diffusion or SDXL"
        )
    if name not in PIPELINES:
        raise ModelError(
            f"{file}: models of the kind {name!r} are not supported; known are {', '.join(PIPELINES)}"
        )
    if index.get("requires_aesthetics_score") is True or index.get("text_encoder") == [None, None]:
        raise ModelError(
            f"{file}: this is an SDXL refiner, which only goes over pictures of SDXL and is not "
            "supported; use the base model"
        )
    encoder = ("class_encoder",) if "class_encoder" in index else ("text_encoder", "tokenizer")
    if "XL" in str(name) or "text_encoder_2" in index:
        encoder = (*encoder, "text_encoder_2", "tokenizer_2")
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
    if folder.name in ("text_encoder", "text_encoder_2"):
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
    second: Mapping[str, Any] | None,
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
        ("addition_embed_type", (None,) if second is None else ("text_time",)),
    ):
        if unet.get(name) not in allowed:
            raise ModelError(f"{folder}: {name} = {unet.get(name)!r} is not supported; use another model")
    if second is not None:
        text_dim = _width_of_pair(folder, unet, text, second)
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


def _width_of_pair(
    folder: Path, unet: Mapping[str, Any], text: Mapping[str, Any], second: Mapping[str, Any]
) -> int:
    """Numbers a token of SDXL's two encoders, once what is pooled and six sizes fit the UNet's embedding."""
    file = folder.parent / "text_encoder_2" / "config.json"
    if text.get("model_type") != "clip_text_model" or second.get("architectures") != [PROJECTED.model]:
        raise ModelError(f"{file}: SDXL reads with CLIP and {PROJECTED.model}; get the model again")
    widths = (text.get("hidden_size"), second.get("hidden_size"), second.get("projection_dim"))
    first_dim, second_dim, pooled_dim = (width if type(width) is int else 0 for width in widths)
    each = unet.get("addition_time_embed_dim")
    sizes = 6 * each if type(each) is int else 0
    told = unet.get("projection_class_embeddings_input_dim")
    if not sizes or told != pooled_dim + sizes:
        raise ModelError(
            f"{folder} is told {told!r} numbers of text and sizes, {file} and the sizes have "
            f"{pooled_dim + sizes}; they do not belong together"
        )
    return first_dim + second_dim
