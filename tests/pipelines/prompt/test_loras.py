import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import ModelError, RequestError
from models.weights import LORA_FILE
from pipelines.local_engine import LocalEngine
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from tests.models.test_lora import EVERY_KIND
from tests.training.test_lora import trained
from training.lora import save_lora


def asked(prompt, **options):
    values = {"width": 32, "height": 32, "steps": 2, "guidance_scale": 2.0, "sampler": "Euler", "seed": 1}
    return GenerationRequest(prompt=prompt, **{**values, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """With the LoRAs `ink` and `my dog`, and `words`, which adapts the text encoder alone."""
    outputs = tmp_path_factory.mktemp("outputs")
    for seed, name in enumerate(("ink", "my dog", "words")):
        model = LocalEngine(tiny_model_folder, "cpu").model
        torch.manual_seed(seed)
        part, network, targets = "unet", model.denoiser.unet, EVERY_KIND
        if name == "words":
            part, network, targets = "text_encoder", model.text_encoder.encoder, ("query", "value")
        lora = trained(network, 2, 2, targets)
        save_lora(outputs / name, {part: (lora, lora.adapter)}, {"base_model_id": model.model_id})
        (outputs / "loras").mkdir(exist_ok=True)
        shutil.move(outputs / name / LORA_FILE, outputs / "loras" / f"{name}.safetensors")
    return outputs


@pytest.fixture(scope="module")
def engine(folder: Path, tiny_model_folder: Path) -> LocalEngine:
    return LocalEngine(tiny_model_folder, "cpu", files=PromptFiles(folder))


def draw(engine, prompt, **options):
    *_, result = engine.generate(asked(prompt, **options))
    assert isinstance(result, GenerationResult)
    return result, [np.asarray(image) for image in result.images]


@pytest.mark.parametrize("name", ["ink", "my dog", "words"])
def test_a_tag_changes_the_picture_by_its_weight_and_leaves_no_trace(engine: LocalEngine, name: str) -> None:
    _, (plain,) = draw(engine, "a red dog")
    result, (inked,) = draw(engine, f"a red dog<lora:{name}:0.8>")
    _, (less,) = draw(engine, f"a red dog<lora:{name}:0.1>")
    _, (none,) = draw(engine, f"a red dog<lora:{name}:0>")
    assert not np.array_equal(inked, plain)
    assert not np.array_equal(inked, less)
    assert np.array_equal(none, plain)
    assert result.pictures[0].prompt == f"a red dog<lora:{name}:0.8>"
    _, (again,) = draw(engine, "a red dog")
    assert np.array_equal(again, plain)


def test_the_first_number_is_for_the_text_encoder_and_the_second_for_the_unet(engine: LocalEngine) -> None:
    _, (plain,) = draw(engine, "a red dog")
    for name, own, other in (("words", "0.8:0", "0:0.8"), ("ink", "0:0.8", "0.8:0")):
        _, (both,) = draw(engine, f"a red dog<lora:{name}:0.8>")
        assert np.array_equal(draw(engine, f"a red dog<lora:{name}:{own}>")[1][0], both)
        assert np.array_equal(draw(engine, f"a red dog<lora:{name}:{other}>")[1][0], plain)


def test_a_drawing_that_is_stopped_leaves_no_trace(engine: LocalEngine) -> None:
    before = {name: p.clone() for name, p in engine.model.denoiser.unet.named_parameters()}
    stream = engine.generate(asked("a dog<lora:ink:1>"))
    assert isinstance(next(stream), StepEvent)
    assert any(not torch.equal(p, before[n]) for n, p in engine.model.denoiser.unet.named_parameters())
    stream.close()
    assert all(torch.equal(p, before[n]) for n, p in engine.model.denoiser.unet.named_parameters())


def test_each_picture_of_a_request_has_the_loras_of_its_own_prompt(engine: LocalEngine) -> None:
    prompt = "a dog {<lora:ink:1>|<lora:my dog:1>|}"
    result, together = draw(engine, prompt, count=6)
    assert len({picture.prompt for picture in result.pictures}) == 3
    for picture, image in zip(result.pictures, together, strict=True):
        _, (alone,) = draw(engine, picture.prompt, seed=picture.seed)
        assert np.abs(alone.astype(int) - image).max() <= 1  # a batch rounds otherwise


def test_tags_of_one_name_add_up_and_stand_anywhere(engine: LocalEngine) -> None:
    _, (once,) = draw(engine, "a dog AND a cat<lora:ink:0.75>")
    _, (twice,) = draw(engine, "<lora:ink:0.5>a dog AND<lora:ink:.25> a cat")
    assert np.abs(once.astype(int) - twice).max() <= 1


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("<lora:inc:1>", 'no LoRA "inc"; did you mean "ink"? There is ink, my dog, words.'),
        ("<lora:../loras/ink:1>", "no LoRA"),
        ("<lora:/etc/passwd:1>", "no LoRA"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(engine: LocalEngine, prompt, words) -> None:
    assert words in (engine.why_not(asked(prompt)) or "")
    with pytest.raises(RequestError):
        next(engine.generate(asked(prompt)))


def test_a_lora_of_another_model_is_refused_by_both_names(folder: Path, tmp_path: Path) -> None:
    from tests.tiny import make_tiny_model

    other = LocalEngine(make_tiny_model(tmp_path / "other", seed=1), "cpu", files=PromptFiles(folder))
    reason = other.why_not(asked("a dog<lora:ink:1>")) or ""
    assert 'The LoRA "ink" does not fit other' in reason
    assert other.model.model_id in reason
    assert other.why_not(asked("a dog")) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("evil.safetensors", b"\x80\x04\x95" + b"evil" * 20, "is a pickle, which can run code when read"),
        ("evil.safetensors", b"PK\x03\x04" + b"\0" * 300, "is a zip archive, as PyTorch packs pickles"),
        ("evil.ckpt", b"(dp0", "may be a pickle, which can run code when read; get its .safetensors"),
        ("evil.PT", b"PK\x03\x04", "is a zip archive, as PyTorch packs pickles"),
    ],
)
def test_a_pickle_is_told_from_a_lora_whatever_its_name(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        PromptFiles(tmp_path).loras.find("evil")


def test_a_lora_that_lies_elsewhere_is_not_followed_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/ink.safetensors").symlink_to(folder / "loras/ink.safetensors")
    with pytest.raises(RequestError, match="leads out of its folder; put a copy in its place"):
        PromptFiles(tmp_path).loras.find("ink")
    shutil.rmtree(tmp_path / "loras")
    (tmp_path / "loras").symlink_to(folder / "loras")  # the folder itself may lie anywhere
    assert PromptFiles(tmp_path).loras.find("ink").name == "ink"


def test_no_name_in_a_tag_leads_out_of_the_folder(folder: Path) -> None:
    loras = PromptFiles(folder).loras
    for name in ("../loras/ink", str(folder / "loras/ink"), "..", "ink\0", "./ink", "loras\\ink", "INK"):
        with pytest.raises(RequestError, match="There is no LoRA"):
            loras.find(name)
