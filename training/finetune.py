"""A training that begins at a model folder: what the folder decides, and what must not contradict it."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from models.denoiser import NUM_TRAIN_TIMESTEPS, Denoiser, betas_from_config
from models.errors import ConfigError
from models.folder import load_part, model_id, model_path
from models.folder_check import check_model_folder
from models.single_file.checkpoint import is_single_file
from models.unet import add_inputs, build_unet
from models.weights import read_json
from training.config import AutoencoderConfig, DiffusionConfig, Init, Lora

SCHEDULER = Path("scheduler/scheduler_config.json")


def resolve_autoencoder(config: AutoencoderConfig) -> AutoencoderConfig:
    """The configuration with everything filled in that `init.model`, or the lack of one, decides."""
    begin, model = folder_of(config.init.model), config.autoencoder
    preset = model.preset or ("" if begin else "starter")
    return replace(config, init=Init(begin), autoencoder=replace(model, preset=preset))


def resolve_diffusion(config: DiffusionConfig) -> DiffusionConfig:
    """The configuration with everything filled in that `init.model`, or the lack of one, decides.

    Raises: ConfigError where a setting contradicts the folder, ModelError where it cannot be used.
    """
    model, lora = config.model, config.lora
    if not config.init.model and lora.rank:
        raise ConfigError(f"lora.rank is {lora.rank}, but init.model is not set; name the folder to adapt")
    begin = folder_of(config.init.model)
    prediction = model.prediction or "flow"
    if begin:
        check_model_folder(begin)
        refuse_two_encoders(begin)
        process = Denoiser.from_scheduler_config(nn.Module(), read_json(Path(begin) / SCHEDULER))
        if model.prediction not in ("", process.prediction_type):
            raise ConfigError(
                f"model.prediction is {model.prediction!r}, but init.model {begin} predicts "
                f"{process.prediction_type!r}; leave model.prediction out"
            )
        prediction = process.prediction_type
        if (model.condition == "text") != (Path(begin) / "text_encoder").is_dir():
            raise ConfigError(
                f'model.condition is "{model.condition}", but init.model {begin} was trained with '
                f"{'classes' if model.condition == 'text' else 'words'}; set what it was trained with"
            )
    model = replace(
        model,
        preset=model.preset or ("" if begin else "starter"),
        prediction=prediction,
        autoencoder=folder_of(model.autoencoder) or begin,
        text_encoder=folder_of(model.text_encoder) or (begin if model.condition == "text" else ""),
    )
    return replace(config, init=Init(begin), model=model, lora=_resolve_lora(config, begin))


def refuse_two_encoders(begin: str) -> None:
    """ConfigError for a folder of SDXL, whose second text encoder and sizes no training here gives."""
    if (Path(begin) / "text_encoder_2").is_dir():
        raise ConfigError(
            f"init.model {begin} reads with two text encoders (SDXL), which is drawn with here and not "
            "trained; name a model with one"
        )


def _resolve_lora(config: DiffusionConfig, begin: str) -> Lora:
    lora, model = config.lora, config.model
    if not lora.rank:
        return lora
    for name, value, needed in (
        ("model.condition", model.condition, "text"),
        ("model.train_text_encoder", model.train_text_encoder, "no"),
        ("training.sharding", config.training.sharding, "ddp"),
    ):
        if value != needed:
            raise ConfigError(
                f'{name} is "{value}", which adapters (lora.rank = {lora.rank}) cannot be trained with; '
                f"set {name}={needed}"
            )
    if lora.preserve and lora.text_encoder:
        raise ConfigError(
            f"lora.preserve is {lora.preserve}, which keeps the denoiser's answers alone; set "
            "lora.text_encoder=false"
        )
    if lora.preserve and (model.image_condition != "none" or config.data.buckets > 1):
        raise ConfigError(
            f"lora.preserve is {lora.preserve}, which is for square pictures and models that draw from words "
            "alone; set lora.preserve=0"
        )
    base = model_id(Path(begin))
    if lora.base not in ("", base):
        raise ConfigError(
            f"lora.base is {lora.base}, but init.model {begin} is {base} by now; name the model that the "
            "adapters were begun on"
        )
    return replace(lora, base=base)


def noise_process(config: DiffusionConfig) -> Tensor | None:
    """The betas (1000,) float64 of `init.model`; None for a flow, and without a folder."""
    if config.model.prediction == "flow" or not config.init.model:
        return None
    betas = betas_from_config(read_json(Path(config.init.model) / SCHEDULER))
    if len(betas) != NUM_TRAIN_TIMESTEPS:
        raise ConfigError(
            f"init.model {config.init.model} has a noise process of {len(betas)} steps; only one of "
            f"{NUM_TRAIN_TIMESTEPS} can be trained"
        )
    return betas


def build_denoiser(
    config: DiffusionConfig, latent_channels: int, text_dim: int, shown_channels: int
) -> UNet2DConditionModel:
    """The UNet of `init.model`, to be trained, else an untrained one of the configured size.

    Input channels for an image condition that the folder's has not begin without effect.
    Raises: ConfigError where the folder's does not fit the configuration.
    """
    model = config.model
    if not config.init.model:
        return build_unet(model.preset, latent_channels, text_dim, model.dropout, shown_channels)
    folder = Path(config.init.model)
    unet: UNet2DConditionModel = load_part(UNet2DConditionModel, folder / "unet", dropout=model.dropout)
    unet.train().requires_grad_()
    has = unet.config
    reads = has.encoder_hid_dim or has.cross_attention_dim
    for key, given, needed in (
        ("model.autoencoder", latent_channels, has.out_channels),
        ("model.text_encoder", text_dim, reads[0] if isinstance(reads, list | tuple) else reads),
    ):
        if given != needed:
            raise ConfigError(
                f"{key} gives {given} channels, the denoiser of init.model {folder} takes {needed}; leave "
                f"{key} out, or name one that fits"
            )
    if model.preset:
        with torch.device("meta"):
            more = has.in_channels - latent_channels
            wanted = build_unet(model.preset, latent_channels, text_dim, shown_channels=more)
        check_preset("model.preset", model.preset, wanted, unet, folder)
    if shown_channels and has.in_channels == latent_channels and not config.lora.rank:
        add_inputs(unet, shown_channels)
    if unet.config.in_channels != latent_channels + shown_channels:
        raise ConfigError(
            f"model.image_condition is {model.image_condition!r}, but the denoiser of init.model {folder} "
            f"reads {unet.config.in_channels} channels; set what it was trained with"
        )
    return unet


def folder_of(named: str) -> str:
    """The model folder that a setting names, which may be a run's; "" for none.

    Raises: ConfigError for a single file, whose parts no training could keep as they are.
    """
    if named and is_single_file(named):
        raise ConfigError(
            f"{named} is a single file, and a training begins with a model folder; make one of it with "
            f"`python launch.py export {named} --output FOLDER`, and name that"
        )
    return str(model_path(named)) if named else ""


def check_preset(key: str, preset: str, wanted: nn.Module, begun: nn.Module, folder: str | Path) -> None:
    """Refuse a preset of another architecture than what training begins with; ConfigError naming both."""
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (wanted, begun)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"{key} is {preset!r}, but init.model {folder} has another architecture; leave {key} out"
        )
