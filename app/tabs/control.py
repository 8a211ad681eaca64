"""The controls of a picture that guides the drawing by a ControlNet, and what the net will see of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.cards import parse_size
from app.context import Context
from app.tabs.events import QUICK, Updates, refusal
from app.tabs.finer import slider
from app.tabs.uploads import picture_file
from models.errors import RequestError
from pipelines.control_picture import control_picture
from pipelines.inputs import InputStore, read_picture
from pipelines.request import MAX_SIZE_PIXELS, MIN_SIZE_PIXELS, GenerationRequest
from pipelines.request_control import MAX_CONTROL_SCALE, PREPROCESSORS, ControlInput

PLAIN = ControlInput(controlnet="", picture="0" * 64)  # whose defaults the page begins with


class ControlForm:
    """The controls of one ControlNet; `fields` holds them by the names of their values."""

    def __init__(self, context: Context, inputs: InputStore) -> None:
        self.inputs, self.controlnets = inputs, context.settings.controlnets
        self.fields: dict[str, gr.components.Component] = {}

    def build(self) -> None:
        """The group, folded away until wanted; without ControlNets a sentence in its place."""
        names, folder = self.controlnets.names(), self.controlnets.folder
        # Where this machine keeps its files is not for everybody who sees the page.
        place = "" if folder is None else f"{folder.parent.name}/{folder.name}"
        with gr.Accordion(text.CONTROL, open=False, elem_id="control"):
            self.none = gr.HTML(
                f'<p class="ls-quiet">{text.NO_CONTROLNETS.format(folder=place)}</p>',
                apply_default_css=False,
                visible=not names,
                elem_id="no-controlnets",
            )
            with gr.Column(visible=bool(names)) as self.some:
                self.net = self.fields["controlnet"] = gr.Dropdown(
                    self._choices(names),
                    value="",
                    label=text.CONTROLNET,
                    info=text.CONTROL_HINT,
                    elem_id="controlnet",
                )
                self.picture = self.fields["control_picture"] = picture_file(
                    format="png",
                    sources=["upload", "clipboard"],
                    label=text.CONTROL_PICTURE,
                    elem_id="control-picture",
                )
                choices = [(text.PREPROCESSORS[name], name) for name in PREPROCESSORS]
                self.preprocessor = self.fields["preprocessor"] = gr.Radio(
                    choices, value=PLAIN.preprocessor, label=text.PREPROCESSOR, elem_id="preprocessor"
                )
                self.seen = gr.Image(
                    type="pil",
                    format="png",
                    interactive=False,
                    visible=False,
                    label=text.CONTROL_SEEN,
                    buttons=[],
                    elem_id="control-seen",
                )
                self.fields["control_scale"] = slider(
                    text.CONTROL_SCALE, 0, MAX_CONTROL_SCALE, PLAIN.scale, step=0.05, name="control-scale"
                )
                gr.HTML(f'<p class="ls-quiet">{text.CONTROL_INTERVAL_HINT}</p>', apply_default_css=False)
                with gr.Row():
                    self.fields["control_start"] = slider(
                        text.CONTROL_START, 0, 1, PLAIN.start, step=0.01, name="control-start"
                    )
                    self.fields["control_end"] = slider(
                        text.CONTROL_END, 0, 1, PLAIN.end, step=0.01, name="control-end"
                    )

    def connect(self, size: list[gr.components.Component]) -> None:
        """Show what the net sees, at the `size` in the settings: the preset, the width and the height."""
        shown = [self.picture, self.preprocessor, *size]
        for control in (self.picture, self.preprocessor, *size):
            control.change(self.see, shown, [self.seen], trigger_mode="always_last", **QUICK)  # type: ignore[attr-defined]

    def see(
        self, file: str | None, preprocessor: Any, size: str, width: float | None, height: float | None
    ) -> dict[str, Any]:
        """An update with the picture as the net is shown it; hidden without one."""
        if not file:
            return gr.update(visible=False, value=None)
        try:
            picture = self.inputs.open(self.inputs.add(read_picture(Path(file))))
        except RequestError as error:
            raise refusal(error) from None
        try:
            asked = parse_size(size, width, height)
        except RequestError:  # half a number
            asked = picture.size
        wide, high = (min(max(side, MIN_SIZE_PIXELS), MAX_SIZE_PIXELS) for side in asked)
        return gr.update(visible=True, value=control_picture(picture, preprocessor, (wide, high)))

    def refresh(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Updates with the ControlNets that there are now: of the sentence, the group and the picker."""
        names = self.controlnets.names()
        return (
            gr.update(visible=not names),
            gr.update(visible=bool(names)),
            gr.update(choices=self._choices(names)),
        )

    def add(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What these controls change of a request; stores its picture. Raises RequestError."""
        if not values["controlnet"]:
            return {}
        if not values["control_picture"]:
            raise RequestError(text.NO_CONTROL_PICTURE)
        control = ControlInput(
            controlnet=values["controlnet"],
            picture=self.inputs.add(read_picture(Path(values["control_picture"]))),
            preprocessor=values["preprocessor"],
            scale=values["control_scale"],
            start=values["control_start"],
            end=values["control_end"],
        )
        return {"controls": (control,)}

    def show(self, request: GenerationRequest) -> Updates:
        """Updates that put the first control of a request into the controls, its picture included."""
        control, picture = (request.controls or (PLAIN,))[0], None
        if request.controls:
            try:
                picture = self.inputs.open(control.picture)
            except RequestError:  # deleted since: the rest can still be used
                picture = None
        there = control.controlnet in self.controlnets.names()
        return {
            self.fields["controlnet"]: control.controlnet if there else "",
            self.fields["control_picture"]: picture,
            self.fields["preprocessor"]: control.preprocessor,
            self.fields["control_scale"]: control.scale,
            self.fields["control_start"]: control.start,
            self.fields["control_end"]: control.end,
        }

    def _choices(self, names: list[str]) -> list[tuple[str, str]]:
        return [(text.CONTROLNET_NONE, ""), *((name, name) for name in names)]
