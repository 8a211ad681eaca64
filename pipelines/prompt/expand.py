"""From what a person typed to the prompt of one picture: its styles first, then its wildcards."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

from models.embeddings import embeddings_folder
from models.lora import loras_folder
from pipelines.prompt.embeddings import Embeddings
from pipelines.prompt.lora import Loras
from pipelines.prompt.styles import Style, apply_styles, find_style, read_styles
from pipelines.prompt.wildcards import Wildcards, expand_wildcards
from pipelines.request import MAX_PROMPT_CHARACTERS, GenerationRequest

STYLES_FILE, WILDCARDS_FOLDER = "styles.csv", "wildcards"


class PromptFiles:
    """The styles and wildcards in a folder, `styles.csv` and `wildcards/`, read anew by each request.

    Without a folder there are none. The LoRAs lie in its `loras/`, or where LATENT_STUDIO_LORAS says, the
    embeddings in its `embeddings/`, or where LATENT_STUDIO_EMBEDDINGS says.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.loras = Loras(None if folder is None else loras_folder(folder))
        self.embeddings = Embeddings(None if folder is None else embeddings_folder(folder))

    def styles(self) -> dict[str, Style]:
        """The styles by name; RequestError where their file cannot be read."""
        return {} if self._folder is None else read_styles(self._folder / STYLES_FILE)

    def wildcards(self) -> Wildcards:
        """The wildcards as they are now."""
        return Wildcards(None if self._folder is None else self._folder / WILDCARDS_FOLDER)


def expand(request: GenerationRequest, files: PromptFiles) -> tuple[GenerationRequest, ...]:
    """The request of each picture, with the prompts it is drawn from and, where they differ, the typed ones.

    Picture i draws its words from its own seed, so it does not depend on the others; one whose prompts were
    expanded before stays as it is. The seed must be known. Raises RequestError for a style that is not there,
    or a prompt that has grown too long.
    """
    pictures = [request.for_image(index) for index in range(request.count)]
    if request.template is not None:
        return tuple(pictures)
    named = files.styles() if request.styles else {}
    styles, wildcards = [find_style(named, name) for name in request.styles], files.wildcards()
    return tuple(_expand_one(picture, styles, wildcards) for picture in pictures)


def expand_texts(
    prompt: str, negative_prompt: str, styles: Sequence[Style], seed: int, wildcards: Wildcards
) -> tuple[str, str]:
    """A prompt and a negative prompt as they are in the picture of this seed."""
    prompt, negative_prompt = apply_styles(prompt, negative_prompt, styles)
    # Each has a generator of its own, so that the words of one do not change those of the other.
    return (
        expand_wildcards(prompt, random.Random(f"{seed} prompt"), wildcards, MAX_PROMPT_CHARACTERS),
        expand_wildcards(
            negative_prompt, random.Random(f"{seed} negative_prompt"), wildcards, MAX_PROMPT_CHARACTERS
        ),
    )


def _expand_one(
    picture: GenerationRequest, styles: Sequence[Style], wildcards: Wildcards
) -> GenerationRequest:
    assert picture.seed is not None
    typed = (picture.prompt, picture.negative_prompt)
    prompt, negative_prompt = expand_texts(*typed, styles, picture.seed, wildcards)
    if (prompt, negative_prompt) == typed:
        return picture
    return dataclasses.replace(
        picture, prompt=prompt, negative_prompt=negative_prompt, template=typed[0], negative_template=typed[1]
    )
