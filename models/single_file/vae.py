"""A model with the autoencoder of another file: better decoders of the same latents are given out alone."""

from dataclasses import replace
from pathlib import Path

from models.errors import ModelError
from models.latent_diffusion import LatentDiffusionModel, VaeFile
from models.single_file.checkpoint import read_vae
from models.single_file.digest import file_sha256
from models.single_file.load import build_autoencoder


def with_vae(model: LatentDiffusionModel, path: Path) -> LatentDiffusionModel:
    """The same model, and student, with the autoencoder of a file; ModelError where their latents differ."""
    own = model.autoencoder
    if own.regularizer != "kl" or own.patch_size != 1:
        raise ModelError(f"{model.name} has an autoencoder of its own kind; draw without {path}")
    autoencoder = build_autoencoder(read_vae(path, own.vae.config.scaling_factor), path)
    for what, theirs, ours in (
        ("latent channels", autoencoder.latent_channels, own.latent_channels),
        ("pixels a latent", autoencoder.downsampling_factor, own.downsampling_factor),
    ):
        if theirs != ours:
            raise ModelError(f"{path} has {theirs} {what}, {model.name} {ours}; they do not belong together")
    file = VaeFile(path.name, file_sha256(path)[:10])
    instant = model.instant and replace(model.instant, autoencoder=autoencoder, vae=file)
    return replace(model, autoencoder=autoencoder, vae=file, instant=instant)
