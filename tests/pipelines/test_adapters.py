"""Whole drawings by the engine with LoRAs and learned words, against modules that diffusers adapted."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.denoiser import Denoiser
from models.folder import load_model
from models.text_encoder import TextEncoder
from models.text_pair import TextEncoderPair
from models.weights import read_json
from pipelines.local_engine import LocalEngine
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from tests.diffusers_pipelines import WIDTH, stable_diffusion, stable_diffusion_xl
from tests.models.test_lora_forms import write
from tests.pipelines.prompt.test_embeddings import save


def drawn(engine, prompt):
    request = GenerationRequest(
        prompt=prompt, negative_prompt="red", width=32, height=32, steps=2, guidance_scale=3.0,
        sampler="DDIM", seed=3,
    )  # fmt: skip
    *_, result = engine.generate(request)
    return np.asarray(result.images[0]).astype(int)


def learn(pipeline, folder):
    """A word of two vectors, in a file for us and in the pipeline."""
    if "text_encoder_2" not in pipeline.components:
        pipeline.load_textual_inversion(save(folder, "zorp"), token="zorp")
        return
    folder.mkdir()
    vectors = {name: torch.randn(2, WIDTH) for name in ("clip_l", "clip_g")}
    save_file(vectors, folder / "zorp.safetensors")
    for name, end in (("clip_l", ""), ("clip_g", "_2")):
        parts = {part: pipeline.components[f"{part}{end}"] for part in ("text_encoder", "tokenizer")}
        pipeline.load_textual_inversion(vectors[name], token="zorp", **parts)


def encoder_of(pipeline):
    first = TextEncoder(pipeline.text_encoder, pipeline.tokenizer)
    if "text_encoder_2" not in pipeline.components:
        return first
    return TextEncoderPair(first, TextEncoder(pipeline.text_encoder_2, pipeline.tokenizer_2))


@pytest.mark.slow
@pytest.mark.parametrize("build", [stable_diffusion, stable_diffusion_xl])
def test_loras_and_a_learned_word_of_a_prompt_draw_what_diffusers_modules_draw(build, tmp_path: Path) -> None:
    pipeline, folder = build(), tmp_path / "model"
    pipeline.save_pretrained(folder)
    (tmp_path / "loras").mkdir()
    theirs = copy.deepcopy(pipeline)
    for seed, form in enumerate(("kohya", "peft")):
        lora = write(pipeline, tmp_path / "loras", form, seed)
        theirs.load_lora_weights(lora.path, adapter_name=form)
    weights = {"unet": 0.5} | {part: 0.8 for part in theirs.components if part.startswith("text_encoder")}
    theirs.set_adapters(["kohya", "peft"], [weights, -0.4])
    learn(theirs, tmp_path / "embeddings")

    engine = LocalEngine(folder, "cpu", files=PromptFiles(tmp_path))
    plain = {name: weight.clone() for name, weight in engine.model.denoiser.unet.state_dict().items()}
    ours = drawn(engine, "a zorp <lora:kohya-0:0.8:0.5> <lora:peft-1:-0.4>")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    adapted = replace(
        load_model(folder),
        denoiser=Denoiser.from_scheduler_config(theirs.unet, scheduler),
        text_encoder=encoder_of(theirs),
    )
    wanted = drawn(LocalEngine(adapted, "cpu"), theirs.maybe_convert_prompt("a zorp", theirs.tokenizer))
    assert np.abs(ours - wanted).max() <= 1
    assert np.abs(ours - drawn(engine, "a zorp")).max() > 8
    assert all(
        torch.equal(weight, plain[name]) for name, weight in engine.model.denoiser.unet.state_dict().items()
    )
