"""Gradio's picture components, which open what is uploaded as all pictures are opened here.

Their own way is Pillow with every format it knows, at any size.
"""

import io
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from app import text
from app.tabs.events import refusal
from models.errors import DataError
from pipelines.inputs import MAX_SIDE_PIXELS
from pipelines.pictures import open_picture

MAX_LAYERS = 4  # the page has one

class PictureEditor(gr.ImageEditor):
    """The editor; what it was given and its layers are RGBA, at most MAX_SIDE_PIXELS a side."""

    is_template = True  # the browser's side is Gradio's

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        """The background and the layers as pictures; nobody needs their composite. Raises gr.Error."""
        if payload is None:
            return None
        sent = payload if payload.id is None else self.blob_storage.pop(payload.id, None)
        if sent is None:
            return {"background": None, "layers": [], "composite": None}
        if len(sent.layers or ()) > MAX_LAYERS:
            raise refusal(text.TOO_MANY_LAYERS.format(most=MAX_LAYERS))
        layers = [_opened(layer) for layer in sent.layers or ()]
        return {
            "background": _opened(sent.background),
            "layers": [layer for layer in layers if layer is not None],
            "composite": None,
        }
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class PictureFile(gr.Image):
    """A picture as the path of the file that was uploaded, which its handler opens."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        """The path, unopened."""
        return None if payload is None else payload.path
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def _opened(file: Any) -> Image.Image | None:
    if file is None:
        return None
    source = io.BytesIO(file) if isinstance(file, bytes | bytearray | memoryview) else Path(file.path)
    try:
        return open_picture(source, None, MAX_SIDE_PIXELS)
    except DataError as error:
        raise refusal(text.PICTURE_UNUSABLE.format(reason=error)) from None
