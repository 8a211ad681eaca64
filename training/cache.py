"""Latents and text states computed once: what a frozen autoencoder and text encoder say of a dataset."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from models.autoencoder import Autoencoder
from models.text_encoder import TextEncoder, TextStates
from models.weights import sha256
from training.checkpoint import sync
from training.data.pictures import Pictures, chunks


class TextCache:
    """States of distinct captions, stored without padding: caption i has tokens[start[i]:start[i + 1]]."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tokens, self.start, self.pooled = tensors["tokens"], tensors["start"], tensors["pooled"]

    def states(self, captions: Sequence[int]) -> TextStates:
        """States of captions by number, padded to the longest, float32."""
        parts = [self.tokens[self.start[i] : self.start[i + 1]] for i in captions]  # (T_i, D) each
        hidden = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).float()  # (B, T, D)
        lengths = torch.tensor([len(part) for part in parts])
        mask = torch.arange(hidden.shape[1]) < lengths.unsqueeze(1)  # (B, T)
        return TextStates(hidden, mask, self.pooled[list(captions)].float())


def cached(
    folder: Path, kind: str, key: Iterable[str], build: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Tensors from `folder/<kind>-<hash of key>.safetensors`, built and written whole where missing."""
    digest = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    path = folder / f"{kind}-{digest}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as draft:  # two runs may build the same at once
            partial = Path(draft) / path.name
            save_file(build(), partial)
            sync(partial)
            partial.replace(path)
        sync(folder)
    return load_file(path)


def cache_latents(autoencoder: Autoencoder, weights: Path, pictures: Pictures, folder: Path) -> Tensor:
    """The mode of every picture's latent, normalised, (N, C, h, w) in half precision.

    The mode and not a sample: the autoencoder's own noise would be one more thing to learn.
    """
    files = [
        f"{entry.file} {entry.file.stat().st_size} {entry.file.stat().st_mtime_ns}"
        for entry in pictures.entries
    ]
    key = [sha256(weights), str(pictures.resolution), *files]
    device = next(autoencoder.parameters()).device

    @torch.inference_mode()
    def build() -> dict[str, Tensor]:
        batches = tqdm(chunks(range(len(pictures)), 64), desc="latents", unit="batch")
        parts = [autoencoder.encode(pictures.batch(batch).to(device)).half().cpu() for batch in batches]
        return {"latents": torch.cat(parts)}

    return cached(folder, "latents", key, build)["latents"]


def cache_text(encoder: TextEncoder, weights: Path, captions: list[str], folder: Path) -> TextCache:
    """The states of distinct captions in half precision."""

    def build() -> dict[str, Tensor]:
        order = sorted(range(len(captions)), key=lambda i: len(captions[i]))  # like lengths together
        tokens: list[Tensor] = [torch.empty(0)] * len(captions)
        pooled = torch.empty(len(captions), encoder.dim, dtype=torch.float16)
        for first in tqdm(range(0, len(order), 128), desc="captions", unit="batch"):
            chunk = order[first : first + 128]
            states = encoder.encode([captions[i] for i in chunk])
            for row, i in enumerate(chunk):
                tokens[i] = states.hidden[row, states.mask[row]].half().cpu()
            pooled[chunk] = states.pooled.half().cpu()
        start = torch.tensor([0, *(len(part) for part in tokens)]).cumsum(0)
        return {"tokens": torch.cat(tokens), "start": start, "pooled": pooled}

    return TextCache(cached(folder, "text", [sha256(weights), *captions], build))
