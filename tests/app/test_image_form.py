"""What the controls of drawing from a picture make of their values, and of a request."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.cards import ModelCard, read_card
from app.context import Context, open_context
from app.picture import Picture
from app.settings import Settings
from app.tabs.image import ImageForm
from models.errors import RequestError
from tests.app.engines import PacedEngine, a_request


@pytest.fixture
def context(tmp_path: Path, tiny_model_folder: Path) -> Any:
    made: Context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path))
    yield made
    made.close()


@pytest.fixture
def form(context: Context) -> ImageForm:
    made = ImageForm(context)
    with gr.Blocks(analytics_enabled=False):
        made.build()
    return made


@pytest.fixture
def card(tiny_model_folder: Path) -> ModelCard:
    return read_card(tiny_model_folder)


def values(form: ImageForm, **changes: Any) -> dict[str, Any]:
    return {name: control.value for name, control in form.fields.items()} | changes


def painted(box: tuple[int, int, int, int] | None = (8, 8, 24, 24)) -> dict[str, Any]:
    layer = Image.new("RGBA", (48, 40))
    if box is not None:
        layer.paste((230, 0, 122, 255), box)
    background = Image.linear_gradient("L").resize((48, 40)).convert("RGBA")
    return {"background": background, "layers": [layer], "composite": background}


def test_untouched_controls_change_nothing(form: ImageForm, card: ModelCard) -> None:
    request = a_request()
    assert form.add(request, card, values(form)) == request
    empty = {"background": None, "layers": [], "composite": None}
    assert form.add(request, card, values(form, editor=empty)) == request


def test_what_was_painted_becomes_the_mask_and_comes_back(form: ImageForm, card: ModelCard) -> None:
    request = form.add(
        a_request(), card, values(form, editor=painted(), variation_strength=0.25, variation_seed=5)
    )
    assert request.image is not None
    assert request.image.mask is not None
    assert (request.width, request.height) == (48, 40)  # as the picture, so that nothing is resized
    mask = np.asarray(form.inputs.open(request.image.mask))
    assert (mask[8:24, 8:24] == 255).all()
    assert mask.sum() == 255 * 16 * 16
    shown = form.show(request)
    again = form.add(a_request(), card, {name: shown[control] for name, control in form.fields.items()})
    assert again == request


def test_a_picture_without_paint_is_drawn_over_as_a_whole(form: ImageForm, card: ModelCard) -> None:
    request = form.add(
        a_request(), card, values(form, editor=painted(None), only_masked=True, scale=1.5, tiling=True)
    )
    assert request.image is not None
    assert request.second_pass is not None
    assert (request.image.mask, request.image.only_masked, request.tiling) == (None, False, True)
    assert request.second_pass.scale == 1.5
    assert form.show(request)[form.fields["scale"]] == 1.5


def test_more_room_makes_the_drawing_larger(form: ImageForm, card: ModelCard) -> None:
    request = form.add(a_request(), card, values(form, editor=painted(None), left=16, bottom=8))
    assert request.image is not None
    assert request.image.extend == (16, 0, 0, 8)
    assert (request.width, request.height) == (64, 48)


def test_what_cannot_go_together_is_said(form: ImageForm, card: ModelCard) -> None:
    with pytest.raises(RequestError, match="outside the mask"):
        form.add(a_request(), card, values(form, editor=painted(), scale=2))


def test_before_and_after_are_shown_in_one_size(form: ImageForm, card: ModelCard, tmp_path: Path) -> None:
    request = form.add(a_request(), card, values(form, editor=painted()))
    file = tmp_path / "drawn.png"
    Image.new("RGB", (48, 40)).save(file)
    picture = Picture(id="1", path=file, created=0.0, model="tiny", request=request, favourite=False)
    update = form.before_and_after(picture)
    assert update["visible"]
    assert [image.size for image in update["value"]] == [(48, 40)] * 2
    assert not form.before_and_after(None)["visible"]
    assert request.image is not None
    form.inputs.path(request.image.picture).unlink()
    assert not form.before_and_after(picture)["visible"]
