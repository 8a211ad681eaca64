"""The controls of drawing from a picture, and of larger, seamless and varied pictures."""

import dataclasses
from typing import Any

import gradio as gr
from PIL import Image, ImageChops, ImageOps

from app import text
from app.cards import ModelCard
from app.context import Context
from app.library import Picture
from models.errors import RequestError
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.request import MAX_SEED, GenerationRequest, drawing_size
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
PLAIN_IMAGE, PLAIN_PASS = ImageInput(picture="0" * 64), SecondPass()  # whose defaults the page begins with


class ImageForm:
    """The controls that add to a request; `fields` are they in the order of their values."""

    def __init__(self, context: Context) -> None:
        self.inputs = InputStore(context.settings.inputs)

    def build(self) -> None:
        """Both groups, folded away until wanted."""
        with gr.Accordion(text.FROM_IMAGE, open=False, elem_id="from-image") as self.accordion:
            gr.HTML(f'<p class="ls-quiet">{text.PICTURE_AND_MASK}</p>', apply_default_css=False)
            self.editor = gr.ImageEditor(
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
            self.strength = gr.Slider(
                0.05,
                1,
                value=PLAIN_IMAGE.strength,
                step=0.01,
                label=text.STRENGTH,
                info=text.STRENGTH_HINT,
                buttons=[],
                elem_id="strength",
            )
            self.only_masked = gr.Checkbox(
                label=text.ONLY_MASKED, info=text.ONLY_MASKED_HINT, elem_id="only-masked"
            )
            with gr.Row():
                self.blur = _slider(MAX_BLUR_PIXELS, PLAIN_IMAGE.mask_blur, text.MASK_BLUR, "mask-blur")
                self.padding = _slider(
                    MAX_PADDING_PIXELS, PLAIN_IMAGE.mask_padding, text.MASK_PADDING, "mask-padding"
                )
            fills = [(text.FILL_NAMES[name], name) for name in FILLS]
            self.fill = gr.Dropdown(fills, value=PLAIN_IMAGE.fill, label=text.FILL, elem_id="fill")
            sides = {
                "left": text.LEFT_SIDE,
                "top": text.TOP,
                "right": text.RIGHT_SIDE,
                "bottom": text.BOTTOM,
            }
            with gr.Row(elem_id="extend"):
                self.sides = [
                    gr.Number(
                        0, label=label, precision=0, minimum=0, maximum=MAX_EXTEND_PIXELS, step=8,
                        min_width=70, elem_id=f"extend-{name}",
                    )
                    for name, label in sides.items()
                ]  # fmt: skip
        with gr.Accordion(text.LARGER, open=False, elem_id="larger"):
            self.scale = gr.Slider(
                1,
                MAX_SCALE,
                value=1,
                step=0.25,
                label=text.SCALE,
                info=text.SCALE_HINT,
                buttons=[],
                elem_id="scale",
            )
            self.upscaler = gr.Dropdown(
                list(UPSCALERS), value=PLAIN_PASS.upscaler, label=text.UPSCALER, elem_id="upscaler"
            )
            self.second_strength = gr.Slider(
                0.05,
                1,
                value=PLAIN_PASS.strength,
                step=0.01,
                label=text.SECOND_STRENGTH,
                buttons=[],
                elem_id="second-strength",
            )
            self.second_steps = _slider(150, 0, text.SECOND_STEPS, "second-steps")
            self.tiling = gr.Checkbox(label=text.TILING, elem_id="tiling")
            with gr.Row():
                self.variation_seed = gr.Number(
                    -1,
                    label=text.VARIATION_SEED,
                    precision=0,
                    minimum=-1,
                    maximum=MAX_SEED,
                    min_width=120,
                    elem_id="variation-seed",
                )
                self.variation = gr.Slider(
                    0,
                    1,
                    value=0,
                    step=0.01,
                    label=text.VARIATION,
                    min_width=120,
                    buttons=[],
                    elem_id="variation",
                )

    @property
    def fields(self) -> list[gr.components.Component]:
        """The controls whose values `add` takes, in its order."""
        image = [self.editor, self.strength, self.only_masked, self.blur, self.padding, self.fill]
        second = [self.scale, self.upscaler, self.second_strength, self.second_steps]
        return [*image, *self.sides, *second, self.tiling, self.variation_seed, self.variation]

    def add(self, request: GenerationRequest, card: ModelCard, *values: Any) -> GenerationRequest:
        """The request with what these controls ask for; stores its picture. Raises RequestError."""
        editor, strength, only_masked, blur, padding, fill, *rest = values
        sides, rest = tuple(int(pixels or 0) for pixels in rest[:4]), rest[4:]
        scale, upscaler, second_strength, second_steps, tiling, variation_seed, variation = rest
        changes: dict[str, Any] = {"tiling": tiling, "variation_strength": variation}
        if variation and variation_seed is not None and variation_seed >= 0:
            changes["variation_seed"] = int(variation_seed)
        if scale > 1:
            steps = int(second_steps) or None
            changes["second_pass"] = SecondPass(
                scale=scale, strength=second_strength, steps=steps, upscaler=upscaler
            )
        background = (editor or {}).get("background")
        if background is not None:
            painted = _painted(editor)
            changes["image"] = ImageInput(
                picture=self.inputs.add(read_picture(background)),
                strength=strength,
                mask=None if painted is None else self.inputs.add(read_mask(painted)),
                mask_blur=int(blur),
                only_masked=only_masked and painted is not None,
                mask_padding=int(padding),
                fill=fill,
                extend=sides,  # type: ignore[arg-type]
            )
            if not changes["image"].only_masked:
                left, top, right, bottom = sides
                size = (background.width + left + right, background.height + top + bottom)
                native = (card.defaults.width, card.defaults.height)
                changes["width"], changes["height"] = drawing_size(size, native, card.factor)
        return dataclasses.replace(request, **changes)

    def show(self, request: GenerationRequest) -> list[Any]:
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
        return [
            editor,
            image.strength,
            image.only_masked,
            image.mask_blur,
            image.mask_padding,
            image.fill,
            *image.extend,
            1 if request.second_pass is None else second.scale,
            second.upscaler,
            second.strength,
            second.steps or 0,
            request.tiling,
            -1 if request.variation_seed is None else request.variation_seed,
            request.variation_strength,
        ]

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


def _slider(most: int, value: int, label: str, name: str) -> gr.Slider:
    return gr.Slider(0, most, value=value, step=1, label=label, min_width=120, buttons=[], elem_id=name)


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
