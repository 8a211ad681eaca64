"""The controls of drawing from a picture, of one that guides, and of larger, seamless and varied pictures."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gradio as gr
from PIL import Image, ImageChops, ImageOps

from app import text
from app.cards import ModelCard
from app.context import Context
from app.picture import Picture
from app.tabs.control import ControlForm
from app.tabs.events import Updates
from app.tabs.finer import slider
from app.tabs.uploads import picture_editor
from models.errors import RequestError
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.request import MAX_STEPS, GenerationRequest, drawing_size
from pipelines.request_parts import (
    FILLS,
    MAX_BLUR_PIXELS,
    MAX_EXTEND_PIXELS,
    MAX_PADDING_PIXELS,
    MAX_SCALE,
    UPSCALERS,
    ImageInput,
    SecondPass,
)

BRUSH = "#e6007a"  # seen on any picture
SIDES = ("left", "top", "right", "bottom")
PLAIN_IMAGE, PLAIN_PASS = ImageInput(picture="0" * 64), SecondPass()  # whose defaults the page begins with


class ImageForm:
    """The controls that add to a request; `fields` holds them by the names of their values."""

    def __init__(self, context: Context) -> None:
        self.inputs = InputStore(context.settings.inputs)
        self.control = ControlForm(context, self.inputs)
        self.fields: dict[str, gr.components.Component] = {}

    def build(self) -> None:
        """The groups, folded away until wanted."""
        with gr.Accordion(text.FROM_IMAGE, open=False, elem_id="from-image") as self.accordion:
            gr.HTML(f'<p class="ls-quiet">{text.PICTURE_AND_MASK}</p>', apply_default_css=False)
            self.editor = self.fields["editor"] = picture_editor(
                type="pil",
                image_mode="RGBA",
                format="png",
                sources=["upload", "clipboard"],
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=[BRUSH], color_mode="fixed"),
                label=text.PICTURE_AND_MASK,
                show_label=False,  # its tools would lie on it
                elem_id="editor",
            )
            self.fields["strength"] = gr.Slider(
                0.05,
                1,
                value=PLAIN_IMAGE.strength,
                step=0.01,
                label=text.STRENGTH,
                info=text.STRENGTH_HINT,
                buttons=[],
                elem_id="strength",
            )
            self.fields["only_masked"] = gr.Checkbox(
                label=text.ONLY_MASKED, info=text.ONLY_MASKED_HINT, elem_id="only-masked"
            )
            with gr.Row():
                self.fields["mask_blur"] = slider(
                    text.MASK_BLUR, 0, MAX_BLUR_PIXELS, PLAIN_IMAGE.mask_blur, name="mask-blur"
                )
                self.fields["mask_padding"] = slider(
                    text.MASK_PADDING, 0, MAX_PADDING_PIXELS, PLAIN_IMAGE.mask_padding, name="mask-padding"
                )
            fills = [(text.FILL_NAMES[name], name) for name in FILLS]
            self.fields["fill"] = gr.Dropdown(fills, value=PLAIN_IMAGE.fill, label=text.FILL, elem_id="fill")
            labels = (text.LEFT_SIDE, text.TOP, text.RIGHT_SIDE, text.BOTTOM)
            with gr.Row(elem_id="extend"):
                for side, label in zip(SIDES, labels, strict=True):
                    self.fields[side] = gr.Number(
                        0, label=label, precision=0, minimum=0, maximum=MAX_EXTEND_PIXELS, step=8,
                        min_width=70, elem_id=f"extend-{side}",
                    )  # fmt: skip
        self.control.build()
        self.fields |= self.control.fields
        with gr.Accordion(text.LARGER, open=False, elem_id="larger"):
            self.fields["scale"] = gr.Slider(
                1,
                MAX_SCALE,
                value=1,
                step=0.25,
                label=text.SCALE,
                info=text.SCALE_HINT,
                buttons=[],
                elem_id="scale",
            )
            self.fields["upscaler"] = gr.Dropdown(
                list(UPSCALERS), value=PLAIN_PASS.upscaler, label=text.UPSCALER, elem_id="upscaler"
            )
            self.fields["second_strength"] = gr.Slider(
                0.05,
                1,
                value=PLAIN_PASS.strength,
                step=0.01,
                label=text.SECOND_STRENGTH,
                buttons=[],
                elem_id="second-strength",
            )
            self.fields["second_steps"] = slider(text.SECOND_STEPS, 0, MAX_STEPS, 0, name="second-steps")
            self.fields["tiling"] = gr.Checkbox(label=text.TILING, elem_id="tiling")

    def add(
        self, request: GenerationRequest, card: ModelCard, values: Mapping[str, Any]
    ) -> GenerationRequest:
        """The request with what these controls ask for; stores its picture. Raises RequestError."""
        changes: dict[str, Any] = {"tiling": values["tiling"], **self.control.add(values)}
        if values["scale"] > 1:
            changes["second_pass"] = SecondPass(
                scale=values["scale"],
                strength=values["second_strength"],
                steps=int(values["second_steps"]) or None,
                upscaler=values["upscaler"],
            )
        editor = values["editor"] or {}
        background = editor.get("background")
        if background is not None:
            painted = _painted(editor)
            left, top, right, bottom = (int(values[side] or 0) for side in SIDES)
            changes["image"] = ImageInput(
                picture=self.inputs.add(read_picture(background)),
                strength=values["strength"],
                mask=None if painted is None else self.inputs.add(read_mask(painted)),
                mask_blur=int(values["mask_blur"]),
                only_masked=values["only_masked"] and painted is not None,
                mask_padding=int(values["mask_padding"]),
                fill=values["fill"],
                extend=(left, top, right, bottom),
            )
            if not changes["image"].only_masked:
                size = (background.width + left + right, background.height + top + bottom)
                native = (card.defaults.width, card.defaults.height)
                changes["width"], changes["height"] = drawing_size(size, native, card.factor)
        return dataclasses.replace(request, **changes)

    def show(self, request: GenerationRequest) -> Updates:
        """Updates that put what a request adds into the controls, its picture and mask included."""
        image, second = request.image or PLAIN_IMAGE, request.second_pass or PLAIN_PASS
        editor: dict[str, Any] | None = None
        if request.image is not None:
            try:
                picture = self.inputs.open(image.picture).convert("RGBA")
                layers = [] if image.mask is None else [_layer(self.inputs.open(image.mask), picture.size)]
                editor = {"background": picture, "layers": layers, "composite": None}
            except RequestError:  # deleted since: the rest can still be used
                editor = None
        plain = ("strength", "only_masked", "mask_blur", "mask_padding", "fill")
        values = {name: getattr(image, name) for name in plain} | dict(zip(SIDES, image.extend, strict=True))
        values |= {
            "editor": editor,
            "scale": 1 if request.second_pass is None else second.scale,
            "upscaler": second.upscaler,
            "second_strength": second.strength,
            "second_steps": second.steps or 0,
            "tiling": request.tiling,
        }
        return {self.fields[name]: value for name, value in values.items()} | self.control.show(request)

    def before_and_after(self, picture: Picture | None) -> dict[str, Any]:
        """An update of the slider between a picture and what it was drawn from; hidden without such."""
        image = None if picture is None else picture.request.image
        if picture is None or image is None:
            return gr.update(visible=False, value=None)
        try:
            before = self.inputs.open(image.picture).convert("RGB")
        except RequestError:
            return gr.update(visible=False, value=None)
        with Image.open(picture.path) as file:
            after = file.convert("RGB")
        left, top, right, bottom = image.extend
        before = ImageOps.expand(before, (left, top, right, bottom), "#808080")
        before = ImageOps.fit(before, after.size, Image.Resampling.LANCZOS)
        return gr.update(visible=True, value=(before, after))


def _painted(editor: dict[str, Any]) -> Image.Image | None:
    """What was painted, white on black, in the picture's size; None where nothing was."""
    mask = Image.new("L", editor["background"].size)
    for layer in editor["layers"]:
        alpha = layer.convert("RGBA").getchannel("A").resize(mask.size, Image.Resampling.NEAREST)
        mask = ImageChops.lighter(mask, alpha.point(lambda value: 255 * (value >= 128)))
    return mask if mask.getbbox() is not None else None


def _layer(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask as the editor paints it."""
    layer = Image.new("RGBA", size)
    layer.paste(BRUSH, (0, 0), mask.convert("L").resize(size, Image.Resampling.NEAREST))
    return layer
