"""Gradio's picture components, which open what is uploaded as all pictures are opened here.

Their own way is Pillow with every format it knows, at any size.
"""

import io
from functools import partial
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


def picture_editor(**look: Any) -> gr.ImageEditor:
    """The editor; what it was given and its layers are RGBA, at most MAX_SIDE_PIXELS a side."""
    editor = gr.ImageEditor(**look)
    # No classes of our own: beside the source of each, Gradio writes a file with its interface.
    editor.preprocess = partial(_edited, editor)  # type: ignore[method-assign]
    return editor


def picture_file(**look: Any) -> gr.Image:
    """A picture as the path of the file that was uploaded, which its handler opens."""
    component = gr.Image(type="filepath", **look)
    component.preprocess = _path  # type: ignore[method-assign]
    return component


def _edited(editor: gr.ImageEditor, payload: Any) -> Any:
    """The background and the layers as pictures; nobody needs their composite. Raises gr.Error."""
    if payload is None:
        return None
    sent = payload if payload.id is None else editor.blob_storage.pop(payload.id, None)
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


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _opened(file: Any) -> Image.Image | None:
    if file is None:
        return None
    source = io.BytesIO(file) if isinstance(file, bytes | bytearray | memoryview) else Path(file.path)
    try:
        return open_picture(source, None, MAX_SIDE_PIXELS)
    except DataError as error:
        raise refusal(text.PICTURE_UNUSABLE.format(reason=error)) from None
