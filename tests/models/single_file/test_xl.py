"""SDXL's networks, from the file to diffusers' classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from models.folder import load_autoencoder
from models.single_file.checkpoint import read_checkpoint
from models.single_file.families import SDXL
from models.single_file.load import clip_weights, load_network
from models.weights import read_header
from tests.models.single_file.tiny import XL_KINDS, tiny_file, tiny_parts, tiny_pipeline


@pytest.fixture(scope="module", params=XL_KINDS)
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = request.param
    return name, tiny_file(name, tmp_path_factory.mktemp("xl") / "model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_header_tells_all_of_it(made: tuple[str, Path]) -> None:
    name, file = made
    found = read_checkpoint(file)
    assert (found.family, found.side) == (SDXL, 1024)
    assert found.inpaint == (XL_KINDS[name].channels == 9)
    assert {stored for part in found.parts.values() for stored in part.names} == set(read_header(file))
    for key, value in XL_KINDS[name].unet.items():
        assert found.parts["unet"].config[key] == (list(value) if isinstance(value, tuple) else value)
    for part in ("text_encoder", "text_encoder_2"):
        own = tiny_parts(name)[part].config.to_dict()
        own["architectures"] = [type(tiny_parts(name)[part]).__name__]
        assert all(own[key] == value for key, value in found.parts[part].config.items())


def test_every_network_is_what_it_was(made: tuple[str, Path]) -> None:
    name, file = made
    parts, checkpoint = tiny_parts(name), read_checkpoint(file)
    assert same(
        parts["unet"].state_dict(), load_network(checkpoint, "unet", UNet2DConditionModel).state_dict()
    )
    autoencoder = load_autoencoder(file)
    assert same(parts["vae"].state_dict(), autoencoder.vae.state_dict())
    assert autoencoder.vae.config.scaling_factor == 0.13025
    for part in ("text_encoder", "text_encoder_2"):
        found = clip_weights(file, checkpoint.parts[part])
        wanted = parts[part].state_dict()
        if part == "text_encoder":
            found = {key.removeprefix("text_model."): weight for key, weight in found.items()}
        assert same(wanted, found)


@pytest.mark.slow
def test_diffusers_reads_the_same_from_it(made: tuple[str, Path], tmp_path: Path) -> None:
    name, file = made
    own = tiny_pipeline(name)
    own.save_pretrained(tmp_path)
    theirs = type(own).from_single_file(
        str(file), config=str(tmp_path), local_files_only=True, add_watermarker=False
    )
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert same(getattr(own, part).state_dict(), getattr(theirs, part).state_dict())
