"""A model on disk: diffusers' folder layout, safetensors only, no class but those we list."""

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config_keys import checked_config
from models.defaults import (
    INSTANT,
    PREVIEW_FILE,
    GenerationDefaults,
    ImageCondition,
    LatentPreview,
    read_defaults,
    read_preview,
    write_defaults,
)
from models.errors import ModelError, StudioError
from models.folder_check import PARTS, check_class, check_model_folder, folder_state, model_name
from models.latent_diffusion import LatentDiffusionModel
from models.lora import merge, read_lora_file
from models.single_file.checkpoint import is_single_file
from models.single_file.digest import file_sha256
from models.weights import LORA_FILE, build_module, find_weights, load_weights, read_json, sha256
from models.writing import save_weights, write_bytes, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.autoencoder import Autoencoder
    from models.class_encoder import ConditionEncoder
    from models.denoiser import Denoiser

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
META_KEYS = frozenset({"_class_name", "_diffusers_version", "_name_or_path", "_use_default_values"})
# Names that the attention of older autoencoders has in files, and what they became.
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def load_model(path: Path | str) -> LatentDiffusionModel:
    """Load a model folder or a single file to the CPU, frozen, in evaluation mode and in float32.

    No file of it changed meanwhile, also where a training replaces the folder. Raises ModelError, in one
    sentence, for whatever in the folder is missing, damaged or not allowed.
    """
    folder = Path(path)
    for _ in range(2):
        before, failure = folder_state(folder), None
        try:
            model = _load(folder)
        except ModelError as error:
            failure = error
        if folder_state(folder) == before:
            if failure is not None:
                raise failure
            return model
    raise ModelError(f"{folder} was written to while it was read; try again in a moment")


def _load(folder: Path) -> LatentDiffusionModel:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from models.denoiser import Denoiser

    check_model_folder(folder)
    if is_single_file(folder):
        from models.single_file.load import load_single_file

        return load_single_file(folder)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")

    unet = load_part(UNet2DConditionModel, folder / "unet").eval().requires_grad_(False)
    autoencoder = load_autoencoder(folder)
    model = LatentDiffusionModel(
        name=model_name(folder),
        path=folder,
        model_id=model_id(folder),
        autoencoder=autoencoder,
        denoiser=Denoiser.from_scheduler_config(unet, scheduler),
        text_encoder=load_condition_encoder(folder),
        defaults=read_defaults(folder),
        preview=read_preview(folder, autoencoder.latent_channels),
        image_condition=ImageCondition.from_index(read_json(folder / "model_index.json")),
    )
    if model.defaults.instant is None:
        return model
    student = replace(
        model,
        model_id=model_id(folder, INSTANT),
        denoiser=Denoiser.from_scheduler_config(_student(folder / INSTANT, unet), scheduler),
        defaults=model.defaults.instant,
    )
    return replace(model, instant=student)


def _student(folder: Path, unet: Any) -> Any:
    """The UNet of a student: one of its own, or its teacher's with adapters in the weights."""
    file = find_weights(folder)
    if file.name != LORA_FILE:
        return load_part(type(unet), folder).eval().requires_grad_(False)
    student, lora = copy.deepcopy(unet), read_lora_file(file)
    if misfit := lora.misfit({"unet": student}, lora.base):
        raise ModelError(f"{file}: {misfit}; get the whole model again, or remove {folder.name}/")
    merge({"unet": student}, lora)
    return student


def save_model(
    path: Path | str,
    *,
    autoencoder: "Autoencoder",
    denoiser: "Denoiser",
    text_encoder: "ConditionEncoder",
    defaults: GenerationDefaults,
    preview: LatentPreview | None = None,
    image_condition: ImageCondition | None = None,
    readme: str | None = None,
    instant: LatentDiffusionModel | None = None,
) -> None:
    """Write a model folder in half precision; weights whose bytes would not change are not touched.

    Of the model `instant` the denoiser and the defaults are written, as its student's.

    Every file appears whole or not at all, model_index.json last, so a new folder is no model before it is
    complete. Where an older model is replaced, one that is read between two files has parts of both; whoever
    keeps models in memory compares folder_state. Raises ModelError, before a file is replaced, where its
    weights are not finite.
    """
    folder = Path(path)
    text_encoder.save(folder)
    save_part(autoencoder.vae, folder / "vae")
    save_part(denoiser.unet, folder / "unet")
    scheduler = denoiser.scheduler_config()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_defaults(folder, defaults)
    if instant is not None:
        save_part(instant.denoiser.unet, folder / INSTANT)
        write_defaults(folder / INSTANT, instant.defaults)
    if preview is not None:
        write_json(folder / PREVIEW_FILE, asdict(preview))
    if readme is not None:
        write_bytes(folder / "README.md", readme.encode())
    vae_class = type(autoencoder.vae).__name__
    index: dict[str, Any] = {
        "_class_name": "LatentStudioPipeline",
        "vae": [PARTS["vae"][vae_class], vae_class],
        "unet": ["diffusers", "UNet2DConditionModel"],
        **text_encoder.parts,
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    if image_condition is not None:
        index["image_condition"] = asdict(image_condition)
    write_json(folder / "model_index.json", index)


def model_path(path: Path | str) -> Path:
    """A model folder as a person may name it: the folder of a training run stands for its `model/`."""
    folder = Path(path)
    return folder / "model" if (folder / "config.toml").is_file() else folder


def load_part(part: "type[nn.Module]", folder: Path, **changed: Any) -> Any:
    """A diffusers module from its folder; `changed` are settings that differ and change no weight's shape."""
    file = find_weights(folder)
    return build_part(part, read_json(folder / "config.json") | changed, load_weights(file), file)


def build_part(
    part: "type[nn.Module]", config: Mapping[str, Any], weights: "Mapping[str, Tensor]", source: Path
) -> Any:
    """A diffusers module of weights by its own names, from the keys its constructor has and from no others.

    Raises ModelError, which names the file `source` that the weights are of.
    """
    known = set(inspect.signature(part.__init__).parameters) - {"self"}
    settings = checked_config(config, known, META_KEYS, source.parent / "config.json")
    for old, new in OLD_ATTENTION.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    return build_module(lambda: part(**settings), dict(weights), source)


def save_part(module: Any, folder: Path) -> None:
    """Write a diffusers module's config.json and weights, in half precision."""
    import torch

    save_weights(folder / WEIGHTS_FILE, module.state_dict(), torch.float16)
    save_config(module, folder)


def save_config(module: Any, folder: Path) -> None:
    """Write a diffusers module's config.json."""
    config: Mapping[str, Any] = json.loads(module.to_json_string())
    private = ("_name_or_path", "_use_default_values")
    write_json(folder / "config.json", {key: value for key, value in config.items() if key not in private})


def model_id(folder: Path, denoiser: str = "unet") -> str:
    """Ten hex digits over the weights and configs of all parts that draw with one of the denoisers.

    Of a single file they begin the SHA-256 of it, as AUTOMATIC1111's model hashes do.
    """
    if is_single_file(folder):
        return file_sha256(folder)[:10]
    index = read_json(folder / "model_index.json")
    encoders = [name for name in ("class_encoder", "text_encoder", "text_encoder_2") if name in index]
    parts = [folder / name for name in ("vae", denoiser, *encoders)]
    if find_weights(folder / denoiser).name == LORA_FILE:  # a change of these
        parts.append(folder / "unet")
    files = [file for part in parts for file in (part / "config.json", find_weights(part))]
    files.append(folder / "scheduler" / "scheduler_config.json")
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()[:10]


def load_autoencoder(path: Path | str) -> "Autoencoder":
    """The autoencoder alone of a folder with `vae/` or of a single file, frozen and in float32."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.vq_model import VQModel

    from models.autoencoder import Autoencoder
    from models.pixels import Pixels

    if is_single_file(path):
        from models.single_file.load import autoencoder_of_file

        return autoencoder_of_file(Path(path))
    folder = Path(path) / "vae"
    classes = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel, "Pixels": Pixels}
    vae = load_part(classes[check_class(folder)], folder)
    try:
        autoencoder = Autoencoder(vae)
    except (StudioError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ModelError(f"{folder}/config.json: {error}; use another autoencoder") from error
    return autoencoder.eval().requires_grad_(False)


def load_condition_encoder(path: Path | str) -> "ConditionEncoder":
    """What reads the prompts of a model folder, frozen and in float32."""
    from models.class_encoder import ClassEncoder
    from models.text_encoder import TextEncoder
    from models.text_pair import TextEncoderPair

    folder = Path(path)
    index = read_json(folder / "model_index.json")
    encoder: ConditionEncoder
    if "class_encoder" in index:
        encoder = ClassEncoder.from_folder(folder)
    else:
        encoder = TextEncoder.from_folder(folder)
        if "text_encoder_2" in index:
            part = folder / "text_encoder_2"
            file, config = find_weights(part), read_json(part / "config.json")
            second = TextEncoder.from_parts(config, load_weights(file), folder / "tokenizer_2", file)
            zero_empty = bool(index.get("force_zeros_for_empty_prompt", True))
            encoder = TextEncoderPair(encoder, second, zero_empty)
    return encoder.eval().requires_grad_(False)
