"""The condition encoder: a text encoder that turns prompts into token states for cross-attention."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig

from models.config_keys import checked_config
from models.errors import ModelError
from models.text_families import (
    DEFAULT_MAX_TOKENS,
    FAMILIES,
    IGNORED_KEYS,
    PROJECTED,
    Family,
    longest_prompt,
    read_tokenizer,
)
from models.weights import build_module, find_weights, load_weights, read_json
from models.writing import save_weights, write_bytes, write_json


@dataclass(frozen=True)
class TextStates:
    """Encoded prompts: hidden (B, T, D) float, mask (B, T) bool (True = a token), pooled (B, D)."""

    hidden: Tensor
    mask: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def device(self) -> torch.device:
        """Where the states lie."""
        return self.hidden.device

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextStates":
        """The same states on another device; `dtype` changes the states, never the mask."""
        return TextStates(self.hidden.to(device, dtype), self.mask.to(device), self.pooled.to(device, dtype))

    def select(self, index: Tensor | slice | Sequence[int]) -> "TextStates":
        """The prompts at `index`, in that order; an index may occur more than once."""
        rows = index if isinstance(index, Tensor | slice) else torch.as_tensor(index)
        return TextStates(self.hidden[rows], self.mask[rows], self.pooled[rows])

    @staticmethod
    def cat(parts: "Sequence[TextStates]") -> "TextStates":
        """Join along the batch; shorter parts are padded with zeros that the mask leaves out."""
        longest = max(part.mask.shape[1] for part in parts)
        return TextStates(
            torch.cat([F.pad(p.hidden, (0, 0, 0, longest - p.mask.shape[1])) for p in parts]),
            torch.cat([F.pad(p.mask, (0, longest - p.mask.shape[1])) for p in parts]),
            torch.cat([p.pooled for p in parts]),
        )


class TextEncoder(nn.Module):
    """A transformers encoder with its tokenizer; `dim` is D, `max_tokens` the longest prompt read.

    It comes frozen, and always in evaluation mode: also what is trained jointly has no dropout, as in LDM.
    CLIP is padded to its full length, unmasked, and pooled by its own output, as Stable Diffusion has it.
    Every other family is padded to the longest prompt of the batch, masked, and pooled by the masked mean.
    """

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        config = encoder.config
        self.family = FAMILIES[config.model_type]
        self.dim: int = config.hidden_size
        self.widths: tuple[int, ...] = (self.dim,)  # of the encoders whose states lie side by side in it
        self.is_clip = config.model_type == "clip_text_model"
        positions = getattr(config, "max_position_embeddings", None)
        self.max_tokens = longest_prompt(self.family, positions, tokenizer.model_max_length)

    @classmethod
    def from_folder(cls, path: Path | str) -> Self:
        """Read the text encoder and tokenizer of a model folder or of a transformers folder, in float32.

        Raises ModelError for a family that is not listed, an unknown config key, or weights that do not fit.
        """
        encoder_folder, tokenizer_folder = text_folders(path)
        file = find_weights(encoder_folder)
        config = read_json(encoder_folder / "config.json")
        return cls.from_parts(config, load_weights(file), tokenizer_folder, file)

    @classmethod
    def from_parts(
        cls, config: Mapping[str, Any], weights: Mapping[str, Tensor], tokenizer_folder: Path, source: Path
    ) -> Self:
        """An encoder of weights by transformers' names, which are of the file `source`, in float32.

        Raises ModelError as from_folder does.
        """
        encoder = _build_encoder(config, weights, source)
        tokenizer = read_tokenizer(tokenizer_folder, FAMILIES[encoder.config.model_type])
        if len(tokenizer) > encoder.config.vocab_size:
            raise ModelError(
                f"{tokenizer_folder} has {len(tokenizer)} tokens, its encoder only "
                f"{encoder.config.vocab_size}; they do not belong together"
            )
        return cls(encoder, tokenizer)

    @classmethod
    def untrained(cls, path: Path | str, layers: int = 0) -> Self:
        """What from_folder reads, with fresh weights, `layers` deep if not 0.

        Raises ModelError as from_folder does.
        """
        encoder_folder, tokenizer_folder = text_folders(path)
        config_file = encoder_folder / "config.json"
        family, make_config = _read_config(read_json(config_file), config_file)
        tokenizer = read_tokenizer(tokenizer_folder, family)
        try:
            config = make_config()
            if layers:
                config.num_hidden_layers = layers
            encoder = getattr(transformers, family.model)(config, **family.model_settings)
        except Exception as error:  # constructors of other libraries raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ModelError(f"{config_file} cannot be built ({reason}); use another text encoder") from error
        return cls(encoder, tokenizer)

    def train(self, mode: bool = True) -> Self:
        """Change nothing: an encoder is never in training mode."""
        return super().train(False)

    def save(self, path: Path | str) -> None:
        """Write `text_encoder/` (fp16) and `tokenizer/` of a model folder; identical weights stay."""
        target = Path(path) / "text_encoder"
        config = {"architectures": [type(self.encoder).__name__], **self.encoder.config.to_diff_dict()}
        weights = self.encoder.state_dict()
        if self.family.tied is not None:
            del weights[self.family.tied[1]]
        save_weights(target / "model.safetensors", weights, torch.float16)
        write_json(target / "config.json", config)
        with tempfile.TemporaryDirectory() as draft:
            # A tokenizer remembers how it last cut and padded; the file must not depend on what was read.
            self.tokenizer.backend_tokenizer.no_truncation()
            self.tokenizer.backend_tokenizer.no_padding()
            self.tokenizer.save_pretrained(draft)
            for file in sorted(Path(draft).iterdir()):
                if file.name != "tokenizer_config.json":
                    write_bytes(Path(path) / "tokenizer" / file.name, file.read_bytes())
            # how it was loaded here is nobody's business there
            settings = read_json(Path(draft) / "tokenizer_config.json")
            settings = {k: v for k, v in settings.items() if k not in ("is_local", "local_files_only")}
            write_json(Path(path) / "tokenizer" / "tokenizer_config.json", settings)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The networks that read, by the names that LoRAs and embeddings use."""
        return {"text_encoder": self.encoder}

    @property
    def parts(self) -> dict[str, list[str]]:
        """What model_index.json says of it."""
        return {
            "text_encoder": ["transformers", self.family.model],
            "tokenizer": ["transformers", self.family.tokenizer],
        }

    def token_count(self, text: str) -> int:
        """Tokens of a text, begin and end tokens included; above `max_tokens` the rest is not read."""
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token numbers (B, T) and mask (B, T), True = a token; the empty prompt is one like any other."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length" if self.is_clip else "longest",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return tokens["input_ids"], tokens["attention_mask"].bool()

    def forward(self, numbers: Tensor, mask: Tensor) -> TextStates:
        """States of tokens by number (B, T), with gradients where the encoder is trained."""
        if self.is_clip:
            output = self.encoder(input_ids=numbers)
            return TextStates(output.last_hidden_state, torch.ones_like(mask), output.pooler_output)
        output = self.encoder(input_ids=numbers, attention_mask=mask.long())
        hidden = output.last_hidden_state * mask.unsqueeze(-1)  # (B, T, D), padding is zero
        pooled = hidden.sum(1) / mask.sum(1, keepdim=True)  # (B, D)
        return TextStates(hidden, mask, pooled)

    @torch.no_grad()  # not inference_mode: the states feed the denoiser's training too
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode prompts on the encoder's device."""
        device = self.encoder.get_input_embeddings().weight.device
        states: TextStates = self(*(tokens.to(device) for tokens in self.tokenize(prompts)))
        return states


def text_folders(path: Path | str) -> tuple[Path, Path]:
    """Where the encoder and the tokenizer of a folder lie.

    In a model folder in `text_encoder/` and `tokenizer/`; a folder as transformers writes it, with a
    config.json and no parts, keeps both side by side.
    """
    folder = Path(path)
    if (folder / "config.json").is_file() and not (folder / "text_encoder").is_dir():
        return folder, folder
    return folder / "text_encoder", folder / "tokenizer"


def prepare_text_encoder(
    source: Path | str, target: Path | str, max_tokens: int = DEFAULT_MAX_TOKENS
) -> None:
    """Write the text encoder of a folder into a model folder, in fp16, told to read `max_tokens` at most.

    Raises ModelError.
    """
    encoder = TextEncoder.from_folder(source)
    encoder.tokenizer.model_max_length = max_tokens
    encoder.save(target)


def _read_config(given: Mapping[str, Any], config_file: Path) -> tuple[Family, Callable[[], Any]]:
    """The family that a config names, and what builds it."""
    settings = dict(given)
    name = str(settings.get("model_type"))
    if name not in FAMILIES:
        raise ModelError(
            f"{config_file}: the text encoder {name!r} is not known; use one of {', '.join(FAMILIES)}"
        )
    family = FAMILIES[name]
    if settings.pop("position_embedding_type", "absolute") != "absolute":
        raise ModelError(
            f"{config_file}: only absolute position embeddings are read; use another text encoder"
        )
    config_class = getattr(transformers, family.config)
    fields = set(config_class.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    return family, partial(config_class, **checked_config(settings, fields, IGNORED_KEYS, config_file))


def _build_encoder(config: Mapping[str, Any], given: Mapping[str, Tensor], source: Path) -> Any:
    family, make_config = _read_config(config, source.parent / "config.json")
    if config.get("architectures") == [PROJECTED.model]:
        family = PROJECTED
    weights = {
        key.removeprefix(family.file_prefix): value
        for key, value in given.items()
        if not key.startswith(family.unused)
    }
    if family.tied is not None and family.tied[0] in weights:
        weights[family.tied[1]] = weights[family.tied[0]]
    model_class = getattr(transformers, family.model)
    return build_module(lambda: model_class(make_config(), **family.model_settings), weights, source)
