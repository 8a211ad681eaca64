"""Pictures as a file in a format of one's choice, which the browser fetches at once."""

from collections.abc import Sequence
from html import escape

from gradio.utils import get_upload_folder

from app import stage
from app.download import pack
from app.picture import Picture
from app.shelf import shelf
from app.tabs.events import refusal
from models.errors import StudioError
from pipelines.export import SUFFIXES, PictureFormat

FETCH = """link => {
  const found = new DOMParser().parseFromString(link, 'text/html').querySelector('a');
  if (found) { document.body.append(found); found.click(); found.remove(); }
}"""


def download_link(pictures: Sequence[Picture], format: str, pattern: str) -> str:
    """A link to the pictures as a file, for FETCH; gr.Error where they cannot be packed."""
    known: PictureFormat = next((known for known in SUFFIXES if known == format), "PNG")
    try:
        path = pack(pictures, known, pattern, shelf(get_upload_folder()))
    except StudioError as error:
        raise refusal(error) from None
    name = escape(path.name)
    return f'<a class="ls-link" href="{escape(stage.file_url(path))}" download="{name}">{name}</a>'
