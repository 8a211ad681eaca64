"""Low-rank adapters on frozen networks, h = W x + (alpha / r) B A x with only A and B trained.

Source: Hu et al. 2021, 2106.09685, equation 3. peft puts them in, diffusers' loader reads the file.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer, LoraModel
from torch import Tensor, nn

from models.errors import ConfigError
from models.text_encoder import TextEncoder
from models.weights import LORA_FILE
from models.writing import save_weights
from training.config import DiffusionConfig

# The attention projections of each kind of text encoder, by model_type.
TEXT_TARGETS = {
    "bert": ("query", "key", "value", "attention.output.dense"),
    "roberta": ("query", "key", "value", "attention.output.dense"),
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin"),
    "mpnet": ("attn.q", "attn.k", "attn.v", "attn.o"),
    "clip_text_model": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "t5": ("q", "k", "v", "o"),
}


class Lora:
    """Adapters on layers of one network, which is frozen; `adapter` holds nothing but every A and B.

    `alpha` 0 stands for the rank, a scale of 1; B starts at zero, so nothing changes before the first step.
    Raises ConfigError for a target that names no layer, or one that is neither linear nor a convolution.
    """

    def __init__(self, network: nn.Module, rank: int, alpha: float, targets: Sequence[str]) -> None:
        layers = dict(network.named_modules())
        for target in targets:
            named = [layer for name, layer in layers.items() if f".{name}".endswith(f".{target}")]
            if not named or not all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in named):
                raise ConfigError(
                    f"lora.targets has {target!r}, which names no linear layer or convolution of "
                    f"{type(network).__name__}; attention has to_q, to_k, to_v and to_out.0"
                )
        self.settings = {"r": rank, "lora_alpha": alpha or rank, "target_modules": list(targets)}
        self.tuner = LoraModel(network, LoraConfig(**self.settings, init_lora_weights="gaussian"), "default")
        self.adapter = nn.ModuleDict({
            path.replace(".", "/"): nn.ModuleDict({  # the name of a module holds no dots
                "lora_A": layer.lora_A["default"],
                "lora_B": layer.lora_B["default"],
            })
            for path, layer in network.named_modules()
            if isinstance(layer, LoraLayer)
        })  # fmt: skip

    @torch.no_grad()
    def approach(self, network: nn.Module) -> None:
        """Begin as the change of this rank that comes nearest to `network` (Eckart & Young 1936)."""
        for path, layer in self.tuner.model.named_modules():
            if isinstance(layer, LoraLayer):
                wanted, own = network.get_submodule(path).weight, layer.get_base_layer().weight
                change = (wanted - own).flatten(1) / layer.scaling["default"]  # (out, in)
                u, s, v = torch.linalg.svd(change, full_matrices=False)  # (out, k), (k,), (k, in)
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                rank, root = min(len(down), len(s)), s.sqrt()
                down.zero_().flatten(1)[:rank] = root[:rank, None] * v[:rank]
                up.zero_().flatten(1)[:, :rank] = u[:, :rank] * root[:rank]

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The network as it was, while this lasts."""
        self.tuner.disable_adapter_layers()
        yield
        self.tuner.enable_adapter_layers()

    def merged(self, adapter: nn.Module, weight: float = 1.0) -> Any:
        """A frozen copy without adapters: W + weight (alpha / r) B A of `adapter` for each W."""
        tuner = copy.deepcopy(self.tuner)
        for path, layer in tuner.model.named_modules():
            if isinstance(layer, LoraLayer):
                trained = adapter.get_submodule(path.replace(".", "/"))
                layer.lora_A["default"].load_state_dict(trained.get_submodule("lora_A").state_dict())
                layer.lora_B["default"].load_state_dict(trained.get_submodule("lora_B").state_dict())
                layer.scale_layer(weight)
        return tuner.merge_and_unload().eval().requires_grad_(False)


class Adapters:
    """The adapters of a training: on the denoiser, and on the text encoder where the configuration says so.

    `trained` holds all of them and nothing else. Raises ConfigError for targets that there are not.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, config: DiffusionConfig) -> None:
        options = config.lora
        assert isinstance(text_encoder, TextEncoder)  # adapters are for models that read words
        self.text_encoder, self.base = text_encoder, options.base
        torch.manual_seed(config.training.seed)
        self.parts = {"unet": Lora(unet, options.rank, options.alpha, options.targets)}
        if options.text_encoder:
            targets = TEXT_TARGETS[text_encoder.encoder.config.model_type]
            encoder = Lora(text_encoder.encoder, options.rank, options.alpha, targets)
            self.parts["text_encoder"] = encoder
        self.trained = nn.ModuleDict({name: lora.adapter for name, lora in self.parts.items()})

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The denoiser as it was before, while this lasts."""
        with self.parts["unet"].switched_off():
            yield

    def merged(self, averaged: nn.Module, weight: float = 1.0) -> tuple[nn.Module, TextEncoder]:
        """The denoiser and the text encoder with `weight` times the adapters' average in their weights."""
        unet = self.parts["unet"].merged(averaged.get_submodule("unet"), weight)
        if "text_encoder" not in self.parts:
            return unet, self.text_encoder
        encoder = self.parts["text_encoder"].merged(averaged.get_submodule("text_encoder"), weight)
        return unet, TextEncoder(encoder, self.text_encoder.tokenizer)

    def save(self, folder: Path, averaged: nn.Module, captions: Sequence[str]) -> None:
        """Write the adapters' average to `folder`, with what it belongs to and what to ask it for."""
        parts = {name: (lora, averaged.get_submodule(name)) for name, lora in self.parts.items()}
        about = {"base_model_id": self.base, "trigger_captions": json.dumps(captions, ensure_ascii=False)}
        save_lora(folder, parts, about)


def save_lora(
    folder: Path,
    parts: Mapping[str, tuple[Lora, nn.Module]],
    about: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write `pytorch_lora_weights.safetensors` in diffusers' format from part -> (adapters, their weights).

    Its header has what diffusers reads (rank, alpha and targets of each part) and the entries of `about`.
    The numbers are of `dtype`, or of their own where it is None.
    """
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for part, (lora, adapter) in parts.items():
        tensors |= {f"{part}.{key.replace('/', '.')}": value for key, value in adapter.state_dict().items()}
        settings |= {f"{part}.{key}": value for key, value in lora.settings.items()}
    save_weights(folder / LORA_FILE, tensors, dtype, {"lora_adapter_metadata": json.dumps(settings), **about})
