"""SDXL's condition encoder: two CLIP encoders side by side (Podell et al. 2307.01952, section 2.1)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.text_encoder import TextEncoder, TextStates


class TextEncoderPair(TextEncoder):
    """Two text encoders that read the same tokens; `dim` is the sum of theirs.

    The states are those before the last layer of each, without its last norm; they are pooled by the second's
    projection. Behind the end of a prompt the second is filled with a token of its own. The empty prompt is
    all zeros, as it was in training, unless not `zero_empty`.
    """

    def __init__(self, first: TextEncoder, second: TextEncoder, zero_empty: bool = True) -> None:
        super().__init__(first.encoder, first.tokenizer)
        self.second = second.encoder
        self.second_pad: int = second.tokenizer.pad_token_id
        self.zero_empty = zero_empty
        self.widths = (first.dim, second.dim)
        self.dim = sum(self.widths)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that read, by the names that LoRAs and embeddings use."""
        return {"text_encoder": self.encoder, "text_encoder_2": self.second}

    def forward(self, numbers: Tensor, mask: Tensor) -> TextStates:
        """States of tokens by number (B, T): hidden (B, T, D1 + D2), pooled (B, P)."""
        ends = (numbers == self.tokenizer.eos_token_id).long()
        behind = ends.cumsum(1) > ends  # an end came before: (B, T)
        first = self.encoder(input_ids=numbers, output_hidden_states=True)
        second = self.second(
            input_ids=numbers.masked_fill(behind, self.second_pad), output_hidden_states=True
        )
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return TextStates(hidden, torch.ones_like(mask), second.text_embeds)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts on the encoders' device."""
        states = super().encode(prompts)
        if not self.zero_empty:
            return states
        words = torch.tensor([prompt != "" for prompt in prompts], device=states.device)
        hidden = states.hidden * words[:, None, None]
        return TextStates(hidden, states.mask, states.pooled * words[:, None])

    def save(self, path: Path | str) -> None:
        """Refuse: folders of SDXL are not written here."""
        raise ModelError(f"{path} is not written: SDXL is exported as a single file (.safetensors)")
