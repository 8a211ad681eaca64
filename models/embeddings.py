"""Textual inversion: files of learned vectors that stand in the place of tokens' embeddings.

Source: Gal et al. 2022, 2208.01618. What a file holds is read without torch.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.weights import load_weights, read_header, sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDING_SUFFIX = ".safetensors"
PICKLES = (".pt", ".bin")  # as which embeddings go about too
EMBEDDINGS, EMBEDDINGS_VARIABLE = "embeddings", "LATENT_STUDIO_EMBEDDINGS"
HASH_DIGITS = 12  # that AUTOMATIC1111 writes
# A file for two text encoders, by its tensors: AUTOMATIC1111's names, and those of diffusers' trainer.
PAIRS = (
    {"text_encoder": "clip_l", "text_encoder_2": "clip_g"},
    {"text_encoder": "text_encoders_0", "text_encoder_2": "text_encoders_1"},
)


def embeddings_folder(outputs: Path) -> Path:
    """Where embeddings lie: $LATENT_STUDIO_EMBEDDINGS, else embeddings/ in the folder of the pictures."""
    named = os.environ.get(EMBEDDINGS_VARIABLE)
    return Path(named).expanduser() if named else outputs / EMBEDDINGS


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """What an embedding file holds: so many vectors, of a width D for each part that reads them."""

    path: Path
    vectors: int
    widths: Mapping[str, int]
    tensors: Mapping[str, str]  # by part too

    @property
    def name(self) -> str:
        """What a prompt calls it."""
        return self.path.stem

    @property
    def hash(self) -> str:
        """The beginning of the file's SHA-256."""
        state = self.path.stat()
        return _sha256(self.path, state.st_mtime_ns, state.st_size)[:HASH_DIGITS]

    def misfit(self, widths: Mapping[str, int], chunk_tokens: int) -> str | None:
        """Why it is not for text encoders of these widths, by part, and this chunk; None where it is."""
        if self.widths.keys() != widths.keys():
            return (
                f"it was made for {_encoders(len(self.widths))}, and this model has {_encoders(len(widths))}"
            )
        for part, width in self.widths.items():
            if width != widths[part]:
                return f"its vectors have {width} numbers, those of this model's tokens {widths[part]}"
        if self.vectors > chunk_tokens:
            return f"it has {self.vectors} vectors, and this model reads {chunk_tokens} tokens at a time"
        return None

    def load(self, part: str) -> "Tensor":
        """Its vectors (n, D) for a part; ModelError where the file is damaged or was replaced meanwhile."""
        tensor = load_weights(self.path).get(self.tensors[part])
        if tensor is None or tensor.numel() != self.vectors * self.widths[part]:
            raise ModelError(f"{self.path} was replaced while it was read; try again")
        return tensor.view(self.vectors, self.widths[part])


def read_embedding_file(path: Path) -> EmbeddingFile:
    """What an embedding file holds; ModelError where it is damaged or of another kind.

    That is one tensor of any name, (n, D) or (D,), as diffusers and AUTOMATIC1111 write it, or one for each
    of Stable Diffusion XL's text encoders.
    """
    shapes = {name: entry.shape for name, entry in read_header(path).items()}
    tensors = next((pair for pair in PAIRS if set(pair.values()) == shapes.keys()), None)
    if tensors is None and len(shapes) == 1:
        tensors = {"text_encoder": next(iter(shapes))}
    if tensors is None:
        raise ModelError(
            f"{path} is no embedding: it holds {len(shapes)} tensors, first {min(shapes)[:80]!r}; one is "
            "expected, or clip_l and clip_g"
        )
    given = {part: shapes[name] for part, name in tensors.items()}
    counts = {shape[0] if len(shape) == 2 else 1 for shape in given.values()}
    if any(len(shape) not in (1, 2) or 0 in shape for shape in given.values()) or len(counts) != 1:
        raise ModelError(f"{path} is no embedding: its tensors are {', '.join(map(str, given.values()))}")
    return EmbeddingFile(path, counts.pop(), {part: shape[-1] for part, shape in given.items()}, tensors)


def input_embedding(encoder: Any) -> "nn.Embedding":
    """The layer of a text encoder that turns numbers of tokens into vectors."""
    layer: nn.Embedding = encoder.get_input_embeddings()
    return layer


@contextmanager
def placed(embedding: "nn.Module", vectors: Mapping[int, "Tensor"]) -> Iterator[None]:
    """While this lasts an embedding layer answers with vectors (D,) at some places of one row of tokens."""
    import torch

    def place(layer: Any, given: Any, answer: "Tensor") -> "Tensor":  # (1, T, D)
        at = torch.tensor(list(vectors), device=answer.device)
        return answer.index_copy(1, at, torch.stack(list(vectors.values())).to(answer)[None])

    if not vectors:
        yield
        return
    handle = embedding.register_forward_hook(place)
    try:
        yield
    finally:
        handle.remove()


@lru_cache(maxsize=256)
def _sha256(path: Path, changed: int, size: int) -> str:
    return sha256(path)


def _encoders(count: int) -> str:
    return {1: "one text encoder", 2: "two text encoders (Stable Diffusion XL)"}.get(count, f"{count}")
