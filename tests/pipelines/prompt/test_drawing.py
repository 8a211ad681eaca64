"""The prompt language where it counts: in what the denoiser is asked, and in the pictures."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.defaults import ImageCondition
from models.errors import RequestError
from models.folder import load_model
from models.text_encoder import TextEncoder, TextStates
from models.unet import build_unet
from pipelines.decoding import decode_images
from pipelines.guidance import guided_epsilon
from pipelines.local_engine import LocalEngine
from pipelines.noise import Noise
from pipelines.prompt.conditions import Composition
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.sampling import sample_latents
from pipelines.text_to_image import text_to_image
from tests.pipelines.gaussian import perfect_denoiser
from tests.pipelines.prompt.test_encode import tiny_clip
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> PromptFiles:
    folder = tmp_path_factory.mktemp("files")
    (folder / "wildcards").mkdir()
    (folder / "wildcards" / "animal.txt").write_text("cat\ndog\n")
    (folder / "styles.csv").write_text("name,prompt,negative_prompt\nred,{prompt} on the red,blue\n")
    return PromptFiles(folder)


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path, files: PromptFiles) -> LocalEngine:
    return LocalEngine(tiny_model_folder, "cpu", files=files)


def asked(prompt: str, **changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": prompt, "width": 32, "height": 32, "steps": 4, "guidance_scale": 2.0, "sampler": "Euler",
        "seed": 5,
    }  # fmt: skip
    return GenerationRequest(**(fields | changes))


def draw(engine: LocalEngine, request: GenerationRequest) -> GenerationResult:
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    return result


def pixels(result: GenerationResult, index: int = 0) -> np.ndarray[Any, Any]:
    return np.asarray(result.images[index]).astype(int)


@contextmanager
def watched(engine: LocalEngine) -> Iterator[list[TextStates]]:
    """The states of every call of the denoiser."""
    calls: list[TextStates] = []
    runner = engine.model.denoiser.runner

    def recording(z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
        calls.append(states)
        return runner(z, t, states)

    engine.model.denoiser.runner = recording
    try:
        yield calls
    finally:
        engine.model.denoiser.runner = runner


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "DPM++ SDE"])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_a_prompt_without_syntax_gives_the_same_bits_as_its_states_alone(
    engine: LocalEngine, sampler: str, guidance: float
) -> None:
    request = asked("a red apple, left", negative_prompt="a dog", sampler=sampler, guidance_scale=guidance)
    model = engine.model
    sampling = sample_latents(
        model.denoiser,
        make_scheduler(SAMPLERS[sampler], "Automatic", model.denoiser, 4),
        Noise([5, 6, 7]),
        (model.autoencoder.latent_channels, 8, 8),
        model.text_encoder.encode([request.prompt]),
        model.text_encoder.encode([request.negative_prompt]),
        guidance,
    )
    while True:
        try:
            next(sampling)
        except StopIteration as end:
            expected = decode_images(model.autoencoder, end.value)
            break
    found = draw(engine, dataclasses.replace(request, count=3))
    assert [image.tobytes() for image in found.images] == [image.tobytes() for image in expected]
    assert found.pictures == tuple(dataclasses.replace(request, seed=5 + index) for index in range(3))


@pytest.mark.parametrize(
    "prompt", ["{red|blue} __animal__", "[a {cat|dog|red}|__animal__] AND {red:0.5|blue}", "(__animal__:1.5)"]
)
def test_an_image_of_a_batch_is_the_image_alone_whatever_words_it_drew(
    engine: LocalEngine, prompt: str
) -> None:
    six = draw(engine, asked(prompt, count=6))
    assert len({picture.prompt for picture in six.pictures}) > 1
    for index in range(6):
        alone = draw(engine, asked(prompt, seed=5 + index))
        assert alone.pictures[0] == six.pictures[index]
        assert abs(pixels(six, index) - pixels(alone)).max() <= 2


def test_a_picture_is_drawn_again_from_what_it_remembers(engine: LocalEngine) -> None:
    drawn = draw(engine, asked("{red|blue} __animal__", styles=["red"], count=2))
    picture = drawn.pictures[1]
    assert picture.template == "{red|blue} __animal__"
    assert picture.prompt.endswith(" on the red")
    assert picture.negative_prompt == "blue"
    again = draw(LocalEngine(engine.model, "cpu"), picture)  # where there are no such files
    assert abs(pixels(again) - pixels(drawn, 1)).max() <= 2


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [("Euler", (1, 1, 1, 1)), ("Heun", (2, 2, 2, 1)), ("DPM2", (2, 2, 2, 1)), ("PLMS", (2, 1, 1, 1))],
)
def test_both_calls_of_a_step_read_the_same_words(
    engine: LocalEngine, sampler: str, calls: tuple[int, ...]
) -> None:
    with watched(engine) as seen:
        draw(engine, asked("[red|green]", sampler=sampler, guidance_scale=1.0))
    states = [engine.model.text_encoder.encode([word]).pooled for word in ("red", "green")]
    read = [next(i for i, pooled in enumerate(states) if torch.equal(call.pooled, pooled)) for call in seen]
    assert read == [step % 2 for step, n in enumerate(calls) for _ in range(n)]


def test_words_change_after_their_step(engine: LocalEngine) -> None:
    changing, before, after = (draw(engine, asked(prompt)) for prompt in ("[red:green:0.5]", "red", "green"))
    assert (pixels(changing) != pixels(before)).any()
    assert (pixels(changing) != pixels(after)).any()
    assert (pixels(draw(engine, asked("[red:green:4]"))) == pixels(before)).all()
    assert (pixels(draw(engine, asked("[red:green:0]"))) == pixels(after)).all()


def test_the_negative_prompt_is_read_too(engine: LocalEngine) -> None:
    plain, weighted, changing = (
        pixels(draw(engine, asked("red", negative_prompt=negative)))
        for negative in ("a dog", "a (dog:1.5)", "a [dog:cat:0.5]")
    )
    assert (weighted != plain).any()
    assert (changing != plain).any()


def test_a_composition_is_a_weighted_sum_in_one_call() -> None:
    denoiser = perfect_denoiser("epsilon")
    batches = []

    def runner(z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
        batches.append(len(z))
        return states.pooled.reshape(-1, 1, 1, 1) + z

    def states(*values: float) -> TextStates:
        rows = len(values)
        return TextStates(
            torch.zeros(rows, 1, 1), torch.ones(rows, 1, dtype=torch.bool), torch.tensor(values).view(-1, 1)
        )

    denoiser.runner = runner
    x = torch.tensor([10.0, 20.0]).view(2, 1, 1, 1).expand(2, 4, 8, 8)
    terms = Composition(states(3.0, 5.0, 7.0), torch.tensor([0, 1, 0]), torch.tensor([1.0, 2.0, -0.5]))
    for scale in (0.0, 1.0, 4.0):
        found = guided_epsilon(denoiser, x, 1.0, terms, states(1.0, 2.0), scale)
        without = x + torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
        towards = torch.tensor([1.0 * (3 - 1) - 0.5 * (7 - 1), 2.0 * (5 - 2)]).view(2, 1, 1, 1)
        torch.testing.assert_close(found, without + scale * towards)
    assert batches == [2, 5, 5]


def test_halves_of_a_prompt_are_the_prompt_and_a_weight_is_a_guidance(engine: LocalEngine) -> None:
    whole = pixels(draw(engine, asked("a red dog")))
    halves = pixels(draw(engine, asked("a red dog:0.5 AND a red dog :0.5")))
    assert abs(halves - whole).max() <= 2
    stronger = pixels(draw(engine, asked("a red dog", guidance_scale=3.0)))
    assert abs(pixels(draw(engine, asked("a red dog:1.5"))) - stronger).max() <= 2
    other = pixels(draw(engine, asked("a red dog AND a blue cat")))
    assert (other != whole).any()


def test_a_clip_draws_prompts_of_any_length_and_weight(engine: LocalEngine) -> None:
    clip = tiny_clip()
    torch.manual_seed(0)
    unet = build_unet("tiny", engine.model.autoencoder.latent_channels, clip.dim)
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    denoiser = type(engine.model.denoiser)(unet, "flow")
    drawing = LocalEngine(
        dataclasses.replace(engine.model, text_encoder=clip, denoiser=denoiser, instant=None), "cpu"
    )
    pictures = [
        pixels(draw(drawing, asked(prompt)))
        for prompt in (
            "a dog", "a (dog:1.5)", "a dog BREAK a cat", "abcdefghijklmnopq", "abcdefghij", "[a|b] AND c",
        )
    ]  # fmt: skip
    for index, picture in enumerate(pictures):
        assert all((picture != other).any() for other in pictures[:index])
    with watched(drawing) as seen:
        draw(drawing, asked("abcdefghijklmnopq", negative_prompt="a", guidance_scale=2.0))
    assert seen[0].mask.sum(dim=1).tolist() == [12, 24]  # the shorter one is padded, and masked there


def test_what_cannot_be_drawn_is_told(engine: LocalEngine) -> None:
    for request, words in (
        (asked("a cat <lora:ink:0.8>"), 'no LoRA "ink"'),
        (asked("{<lora:ink:1>|<lora:ink:2>}"), 'no LoRA "ink"'),
        (asked("a cat", negative_prompt="<lora:ink:1>"), "write the tag into the prompt"),
        (asked(" AND ".join("abcdefghijklmnopqrstuvwxyz")), "AND joins 26 prompts"),
        (asked("a cat", styles=["blue"]), 'no style "blue"; did you mean "red"'),
    ):
        assert words in (engine.why_not(request) or "")
        with pytest.raises(RequestError):
            next(iter(engine.generate(request)))
    assert engine.why_not(asked("a cat <lora:ink:1..2>")) is None


def test_a_model_that_is_shown_a_picture_draws_compositions_too(tmp_path: Path) -> None:
    model = load_model(make_tiny_model(tmp_path / "paints", image_condition=ImageCondition("inpaint")))
    torch.manual_seed(0)
    condition = torch.randn(1, 1 + model.autoencoder.latent_channels, 8, 8)
    pictures = []
    for prompt in ("a red dog", "a red dog:.5 AND a red dog:.5"):
        *_, result = text_to_image(
            model, asked(prompt, count=2), batch_images=2, condition=condition, files=PromptFiles()
        )
        assert isinstance(result, GenerationResult)
        pictures.append(pixels(result, 1))
    assert abs(pictures[0] - pictures[1]).max() <= 2


def test_without_files_every_character_is_meant(engine: LocalEngine) -> None:
    caption, encoded = "[a|b] AND {c|d} (e:1.2) <lora:x:1> __animal__ 7:30", []

    def encode(prompt: str) -> TextStates:
        encoded.append(prompt)
        return engine.model.text_encoder.encode([prompt])

    *_, result = text_to_image(engine.model, asked(caption), encode=encode)
    assert encoded == [caption, ""]
    assert isinstance(result, GenerationResult)
    assert result.pictures == (asked(caption),)


def test_many_prompts_a_picture_are_fewer_pictures_at_a_time(engine: LocalEngine) -> None:
    assert engine.batch_images(asked("a AND b")) * 2 == engine.batch_images(asked("a"))


def test_the_name_of_a_class_is_no_prompt(tmp_path: Path, files: PromptFiles) -> None:
    engine = LocalEngine(make_tiny_model(tmp_path / "classes", classes=["a (b)", "c:2"]), "cpu", files=files)
    assert not isinstance(engine.model.text_encoder, TextEncoder)
    one, other = (draw(engine, asked(name)) for name in ("a (b)", "c:2"))
    assert (pixels(one) != pixels(other)).any()
    assert one.pictures[0].prompt == "a (b)"
    assert "none of them" in (engine.why_not(asked("a {b|b}")) or "")
    assert "no styles" in (engine.why_not(asked("c:2", styles=["red"])) or "")


def test_a_model_loaded_anew_reads_its_prompts_alike(tiny_model_folder: Path, engine: LocalEngine) -> None:
    again = LocalEngine(load_model(tiny_model_folder), "cpu")
    request = asked("a (red:1.3) dog BREAK [cat|dog]")
    assert (pixels(draw(again, request)) == pixels(draw(engine, request))).all()
