"""From a prompt with weights to token states, by any text encoder."""

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from models.embeddings import input_embedding, placed
from models.text_encoder import TextEncoder, TextStates
from pipelines.prompt.attention import parse_attention
from pipelines.prompt.chunks import Chunk, Tokens
from pipelines.prompt.embeddings import Embeddings

STANDARD_ERRORS = 3.0


class PromptEncoder:
    """Encodes prompts with weights, longer ones, and such with BREAK or learned words."""

    def __init__(self, encoder: TextEncoder, embeddings: Embeddings | None = None) -> None:
        self._encoder, self._embeddings = encoder, embeddings or Embeddings()
        self._tokens = Tokens(encoder.tokenizer, encoder.max_tokens, encoder.is_clip)

    @torch.no_grad()
    def encode(self, prompt: str) -> TextStates:
        """The states of one prompt (1, T, D) on the encoder's device, its chunks one behind the other.

        A prompt without weights that fits into one chunk has the states that the encoder alone gives.
        Raises ModelError for an embedding that cannot be read.
        """
        parts = parse_attention(prompt)
        files = self._embeddings.in_words(*(words for words, _ in parts))
        chunks = self._tokens.read(parts, {name: file.vectors for name, file in files.items()}).chunks
        if not files and len(chunks) == 1 and len(parts) == 1 and parts[0][1] == 1:
            return self._encoder.encode([parts[0][0]])
        learned = {
            part: {name: file.load(part) for name, file in files.items()}  # (n, D) each
            for part in self._encoder.encoders
        }
        encoded = [self._encode_chunk(chunk, learned) for chunk in chunks]
        hidden = torch.cat([states.hidden for states in encoded], dim=1)  # (1, T, D)
        mask = torch.cat([states.mask for states in encoded], dim=1)  # (1, T)
        # As each family is pooled: CLIP by its own output for the first chunk, the others by the mean.
        pooled = encoded[0].pooled if self._encoder.is_clip else hidden.mean(dim=1)  # (1, D)
        return TextStates(hidden, mask, pooled)

    def _encode_chunk(self, chunk: Chunk, learned: Mapping[str, Mapping[str, Tensor]]) -> TextStates:
        begin, end = self._tokens.begin, self._tokens.end
        numbers = [*begin, *(token.number for token in chunk), end]
        weights = [*[1.0] * len(begin), *(token.weight for token in chunk), 1.0]
        if self._encoder.is_clip:
            padding = self._encoder.max_tokens - len(numbers)
            numbers += [self._encoder.tokenizer.pad_token_id] * padding
            weights += [1.0] * padding
        layers = {part: input_embedding(one) for part, one in self._encoder.encoders.items()}
        device = layers["text_encoder"].weight.device
        row = torch.tensor([numbers], device=device)  # (1, T)
        with ExitStack() as stack:
            for part, layer in layers.items():
                vectors = {
                    place: learned[part][token.learned[0]][token.learned[1]]
                    for place, token in enumerate(chunk, len(begin))
                    if token.learned is not None
                }
                stack.enter_context(placed(layer, vectors))
            states: TextStates = self._encoder(row, torch.ones_like(row, dtype=torch.bool))
        weight = torch.tensor(weights, device=device, dtype=states.hidden.dtype).view(1, -1, 1)  # (1, T, 1)
        # Each encoder's own mean, as AUTOMATIC1111 has it of SDXL's two.
        parts = torch.split(states.hidden, list(self._encoder.widths), dim=-1)
        hidden = torch.cat([restore_mean(part * weight, part) for part in parts], dim=-1)  # (1, T, D)
        return TextStates(hidden, states.mask, states.pooled)


def restore_mean(weighted: Tensor, original: Tensor) -> Tensor:
    """Weighted states with the mean that they had, both (1, T, D): rescaled, as AUTOMATIC1111 does.

    A ratio of two means says nothing where they hardly differ from zero, as they do after a layer norm
    without much of a bias (MiniLM's); there the states are shifted.
    """
    before, after = original.mean(), weighted.mean()
    doubt = STANDARD_ERRORS * torch.maximum(original.std(), weighted.std()) / original.numel() ** 0.5
    if before.abs() > doubt and after.abs() > doubt:
        return weighted * (before / after)
    return weighted + (before - after)
