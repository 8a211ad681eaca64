"""Learned words in a prompt: the embeddings in a folder, written by their files' names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from models.embeddings import EMBEDDING_SUFFIX, PICKLES, EmbeddingFile, read_embedding_file
from models.errors import RequestError
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest


class Embeddings:
    """The embeddings in a folder, `NAME.safetensors` each, looked for anew each time; without one, none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """What prompts may call them."""
        return sorted(self._paths(EMBEDDING_SUFFIX))

    def find(self, name: str) -> EmbeddingFile:
        """The file of a name; RequestError where there is none, ModelError where it cannot be read."""
        path = self._paths(EMBEDDING_SUFFIX).get(name)
        if path is None:
            raise RequestError(f'There is no embedding "{name[:60]}" any more; choose another one.')
        return read_embedding_file(path)

    def in_words(self, *prompts: str) -> dict[str, EmbeddingFile]:
        """Those that prompts name; ModelError where one cannot be read."""
        paths = self._paths(EMBEDDING_SUFFIX)
        return {name: read_embedding_file(paths[name]) for name in self._named(paths, prompts)}

    def state(self, prompt: str) -> tuple[tuple[str, int], ...]:
        """What tells whether a file that a prompt names was replaced: names and times of change."""
        paths = self._paths(EMBEDDING_SUFFIX)
        return tuple((name, paths[name].stat().st_mtime_ns) for name in self._named(paths, [prompt]))

    def hashes(self, pictures: Sequence[GenerationRequest]) -> str:
        """Those that pictures are drawn with and their hashes, as AUTOMATIC1111 writes them down."""
        prompts = [prompt for one in pictures for prompt in (one.prompt, one.negative_prompt)]
        files = self.in_words(*(take_loras(prompt)[0] for prompt in dict.fromkeys(prompts)))
        return ", ".join(f"{re.sub('[:,]', '', name)}: {file.hash}" for name, file in files.items())

    def refuse_pickles(self, *prompts: str) -> None:
        """RequestError where prompts name an embedding that lies in the folder as a pickle alone."""
        pickles = {name: path for suffix in PICKLES for name, path in self._paths(suffix).items()}
        for name in self._paths(EMBEDDING_SUFFIX):
            pickles.pop(name, None)
        for name in self._named(pickles, prompts):
            raise RequestError(
                f'The embedding "{name}" lies in {pickles[name]}, a pickle, which can run code when read; '
                "load it where you trust it and keep its vectors with safetensors.torch.save_file("
                f'{{"emb_params": vectors}}, "{name}{EMBEDDING_SUFFIX}"), or take the word out.'
            )

    @staticmethod
    def _named(paths: Mapping[str, Path], prompts: Sequence[str]) -> list[str]:
        pieces = (piece for prompt in prompts for piece in split_names(prompt, paths))
        return sorted({name for _, name in pieces if name is not None})

    def _paths(self, suffix: str) -> dict[str, Path]:
        if self.folder is None:
            return {}
        return {path.stem: path for path in self.folder.glob(f"*{suffix}") if path.is_file()}


def split_names(words: str, names: Iterable[str]) -> list[tuple[str, str | None]]:
    """The pieces of a text, each with the name that it is, if any: whole words in any case, longest first."""
    known = {name.lower(): name for name in sorted(names) if name}
    if not known:
        return [(words, None)]
    listed = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for match in re.finditer(rf"(?<!\w)(?:{listed})(?!\w)", words, re.IGNORECASE):
        name = known.get(match[0].lower())
        if name is None:  # letters whose cases do not come in pairs
            continue
        if words[end : match.start()].strip():
            pieces.append((words[end : match.start()], None))
        pieces.append((match[0], name))
        end = match.end()
    if words[end:].strip() or not pieces:
        pieces.append((words[end:], None))
    return pieces


def without_names(words: str, names: Mapping[str, object]) -> str:
    """A text without the learned words in it."""
    return " ".join(piece for piece, name in split_names(words, names) if name is None)
