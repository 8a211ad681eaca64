"""What the controls of a ControlNet make of their values, and of a request."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app import stage, text
from app.cards import ModelCard, read_card
from app.context import Context, open_context
from app.picture import Picture
from app.settings import Settings
from app.tabs.image import ImageForm
from models.errors import RequestError
from pipelines.inputs import InputStore, read_picture
from pipelines.request_control import ControlInput
from tests.app.engines import PacedEngine, a_request


@pytest.fixture
def context(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Context]:
    made = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path))
    yield made
    made.close()


@pytest.fixture
def card(tiny_model_folder: Path) -> ModelCard:
    return read_card(tiny_model_folder)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    half = Image.new("RGB", (48, 48))
    half.paste("white", (24, 0, 48, 48))
    half.save(tmp_path / "half.png")
    return str(tmp_path / "half.png")


def form(context: Context, *names: str) -> ImageForm:
    """The form as it is built where there are these ControlNets."""
    for name in names:
        folder = context.settings.outputs / "controlnets" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    made = ImageForm(context)
    with gr.Blocks(analytics_enabled=False):
        made.build()
    return made


def values(form: ImageForm, **changes: Any) -> dict[str, Any]:
    return {name: control.value for name, control in form.fields.items()} | changes


def test_without_any_a_sentence_says_where_they_go_until_there_are_some(
    context: Context, card: ModelCard
) -> None:
    made = form(context)
    control = made.control
    assert (control.none.visible, control.some.visible) == (True, False)
    assert f"{context.settings.outputs.name}/controlnets" in str(control.none.value)
    assert str(context.settings.outputs) not in str(control.none.value)  # which is not for every visitor
    assert made.add(a_request(), card, values(made)) == a_request()
    form(context, "lines")
    none, some, net = control.refresh()
    assert (none["visible"], some["visible"]) == (False, True)
    assert net["choices"] == [(text.CONTROLNET_NONE, ""), ("lines", "lines")]


def test_what_is_chosen_becomes_a_control_and_comes_back(
    context: Context, card: ModelCard, picture: str
) -> None:
    made = form(context, "depth", "lines")
    chosen = {"controlnet": "lines", "control_picture": picture, "preprocessor": "canny"}
    weighed = {"control_scale": 0.8, "control_start": 0.1, "control_end": 0.6}
    request = made.add(a_request(), card, values(made, **chosen, **weighed))
    stored = made.inputs.add(read_picture(Path(picture)))
    assert request.controls == (
        ControlInput(controlnet="lines", picture=stored, preprocessor="canny", scale=0.8, start=0.1, end=0.6),
    )
    shown = {name: made.show(request)[control] for name, control in made.fields.items()}
    assert {name: shown[name] for name in weighed} == weighed
    assert (shown["controlnet"], shown["preprocessor"]) == ("lines", "canny")
    assert (np.asarray(shown["control_picture"]) == np.asarray(Image.open(picture))).all()
    plain = {name: made.show(a_request())[control] for name, control in made.fields.items()}
    assert (plain["controlnet"], plain["control_picture"], plain["control_scale"]) == ("", None, 1.0)


def test_what_is_missing_is_said(context: Context, card: ModelCard, picture: str) -> None:
    made = form(context, "lines")
    with pytest.raises(RequestError, match="Choose the picture"):
        made.add(a_request(), card, values(made, controlnet="lines"))
    chosen = {"controlnet": "lines", "control_picture": picture, "control_start": 0.5, "control_end": 0.5}
    with pytest.raises(RequestError, match=r"controls.start must be below controls.end"):
        made.add(a_request(), card, values(made, **chosen))


def test_what_the_net_sees_is_shown_at_the_size_of_the_drawing(context: Context, picture: str) -> None:
    control = form(context, "lines").control
    seen = control.see(picture, "canny", "64x32", None, None)
    assert seen["visible"]
    assert seen["value"].size == (64, 32)
    edges = np.asarray(seen["value"])[..., 0]
    assert (np.unique(edges) == [0, 255]).all()
    assert edges[:, 28:36].max(1).all()
    assert not edges[:, :28].any()
    assert control.see(picture, "none", "custom", None, 32)["value"].size == (48, 48)
    assert control.see(picture, "none", "99999999x9", None, None)["value"].size == (2048, 32)
    assert control.see(None, "none", "64x32", None, None) == gr.update(visible=False, value=None)


def test_a_picture_says_what_guided_it(context: Context, tmp_path: Path) -> None:
    store = InputStore(tmp_path / "inputs")
    name = store.add(read_picture(Image.new("RGB", (32, 32))))
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    asked = a_request(controls=(ControlInput(controlnet="a<b", picture=name, scale=0.5),))
    picture = Picture(id="x", path=tmp_path / "x.png", request=asked, model="m", created=0.0, favourite=False)
    assert stage.picture_facts(picture)["controls"] == "a<b, weight 0.5"
    assert "a&lt;b, weight 0.5" in stage.details(picture)
