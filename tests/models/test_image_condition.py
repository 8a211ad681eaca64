import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.autoencoder import Autoencoder, build_autoencoder
from models.defaults import ImageCondition
from models.errors import ModelError, RequestError
from models.folder import load_model
from models.folder_check import check_model_folder
from models.image_condition import image_condition, no_picture, resize
from models.unet import add_inputs
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.text_to_image import text_to_image
from tests.tiny import make_tiny_model

INPAINT, UPSCALE = ImageCondition("inpaint"), ImageCondition("upscale", 4)


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return build_autoencoder("tiny").requires_grad_(False)


def test_what_is_masked_leaves_no_trace_in_the_condition(autoencoder: Autoencoder) -> None:
    pixels, mask = torch.rand(2, 3, 32, 32) * 2 - 1, torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:20, 4:24] = 1
    other = torch.where(mask.bool(), -pixels, pixels)
    condition = image_condition(autoencoder, pixels, mask)
    assert condition.shape == (2, 1 + 4, 8, 8)
    torch.testing.assert_close(image_condition(autoencoder, other, mask), condition)
    known = image_condition(autoencoder, pixels, torch.zeros_like(mask))
    torch.testing.assert_close(known[:, 1:], autoencoder.encode(pixels))
    assert not known[:, 0].any()


@given(st.integers(0, 31), st.integers(0, 31))
def test_one_unknown_pixel_makes_its_latent_unknown_and_no_other(
    autoencoder: Autoencoder, top: int, left: int
) -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., top, left] = 1
    condition = image_condition(autoencoder, torch.zeros(1, 3, 32, 32), mask)
    assert condition[0, 0].nonzero().tolist() == [[top // 4, left // 4]]


def test_an_even_picture_is_even_at_every_size() -> None:
    for factor in (0.25, 0.5, 2, 4):
        resized = resize(torch.full((1, 3, 16, 16), 0.3), factor)
        assert resized.shape == (1, 3, 16 * factor, 16 * factor)
        torch.testing.assert_close(resized, torch.full_like(resized, 0.3))


def test_without_a_picture_all_of_it_is_to_be_painted(autoencoder: Autoencoder) -> None:
    condition = no_picture(INPAINT, autoencoder, 16, 32)
    assert condition.shape == (1, 5, 4, 8)
    assert condition[:, 0].all()
    with pytest.raises(RequestError, match="enlarges pictures 4 times"):
        no_picture(UPSCALE, autoencoder, 16, 32)


def test_a_model_comes_back_with_its_image_condition_and_draws_from_words_where_it_can(
    tmp_path: Path,
) -> None:
    for kind in (INPAINT, UPSCALE):
        folder = make_tiny_model(tmp_path / kind.kind, image_condition=kind)
        check_model_folder(folder)
        assert load_model(folder).image_condition == kind
    engine = LocalEngine(tmp_path / "inpaint", "cpu")
    request = GenerationRequest.from_options({"prompt": "a dog", "seed": 3}, engine.model.defaults)
    (*_, drawn), (*_, shown) = (
        engine.generate(request),
        text_to_image(engine.model, request, condition=no_picture(INPAINT, engine.model.autoencoder, 32, 32)),
    )
    assert drawn.images[0].tobytes() == shown.images[0].tobytes()
    whole = image_condition(engine.model.autoencoder, torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))
    *_, other = text_to_image(engine.model, request, condition=whole)
    assert other.images[0].tobytes() != drawn.images[0].tobytes()
    with pytest.raises(RequestError, match="enlarges pictures 4 times and cannot draw from words alone"):
        next(LocalEngine(tmp_path / "upscale", "cpu").generate(request))


def test_how_pictures_are_batched_changes_none_of_them(tmp_path: Path) -> None:
    model = load_model(make_tiny_model(tmp_path / "model", image_condition=INPAINT))
    pixels, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    condition = image_condition(model.autoencoder, pixels, mask)
    request = GenerationRequest.from_options({"prompt": "a dog", "seed": 3, "count": 2}, model.defaults)
    results = []
    for size in (1, 2):
        *_, result = text_to_image(model, request, batch_images=size, condition=condition)
        results.append(
            torch.frombuffer(bytearray(b"".join(i.tobytes() for i in result.images)), dtype=torch.uint8)
        )
    assert (results[0].int() - results[1].int()).abs().max() <= 1  # rounding alone


@pytest.mark.parametrize(
    "entry",
    ["inpaint", {"kind": "outpaint"}, {"kind": "upscale", "factor": 0}, {"kind": "inpaint", "x": 1}, {}],
)
def test_an_image_condition_that_is_not_known_is_refused(tmp_path: Path, entry: object) -> None:
    folder = make_tiny_model(tmp_path / "model", image_condition=INPAINT)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"image_condition": entry}))
    with pytest.raises(ModelError, match=r"image_condition = .* is not known"):
        load_model(folder)


def test_a_unet_must_have_the_channels_that_its_condition_needs(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / "model", image_condition=INPAINT)
    index = folder / "model_index.json"
    index.write_bytes((tiny_model_folder / "model_index.json").read_bytes())
    with pytest.raises(ModelError, match="in_channels = 9, the autoencoder 4 latent channels, which need 4"):
        load_model(folder)


def test_a_unet_that_is_fine_tuned_to_see_pictures_begins_as_it_was(tiny_model_folder: Path) -> None:
    # In double precision: how float32 rounds hangs on the number of channels.
    old, new = (torch.nn.Module.double(load_model(tiny_model_folder).denoiser.unet) for _ in range(2))
    add_inputs(new, 5)
    assert new.config.in_channels == 9
    shapes = ((2, 4, 8, 8), (2, 5, 8, 8), (2, 3, 32), (2, 32))
    z, shown, hidden, pooled = (torch.randn(shape, dtype=torch.double) for shape in shapes)
    t, seen = torch.tensor([10.0, 900.0]), torch.cat([z, shown], 1)
    with torch.no_grad():
        before, after = (
            unet(x, t, encoder_hidden_states=hidden, class_labels=pooled).sample
            for unet, x in ((old, z), (new, seen))
        )
    assert before.any()
    torch.testing.assert_close(after, before)
