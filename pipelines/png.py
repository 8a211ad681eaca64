"""Pictures on disk: PNG with the settings that drew them, for other programs and, exactly, for this one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.export import encode_picture
from pipelines.files import write_whole
from pipelines.metadata.settings import PictureSettings, read_settings
from pipelines.metadata.texts import Source
from pipelines.request import GenerationRequest


def save_png(
    image: Image.Image,
    path: Path,
    request: GenerationRequest,
    *,
    model_name: str,
    model_id: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write one picture, whole or not at all, with the request that draws it: its own seed, count 1.

    `extra` is kept as JSON beside the request. Raises StudioError if the disk does not take it.
    """
    data = encode_picture(image, "PNG", request, model_name=model_name, model_id=model_id, extra=extra)
    write_whole(path, data)


def read_png(source: Source) -> PictureSettings | None:
    """The settings in a picture, None if it has none, is damaged or is no picture."""
    return read_settings(source)
