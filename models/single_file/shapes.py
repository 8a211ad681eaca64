"""The config of a network from the shapes of its tensors, as the config.json of a model folder would have it.

A config is no larger than the file: what is numbered must be there without a gap, so that nothing is built
that the file does not hold.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.single_file.families import SD2, SD2_LAYERS, Family
from models.single_file.names import (
    OPEN_CLIP_INSIDE,
    UNET_INSIDE,
    VAE_INSIDE,
    open_clip_modules,
    renamed,
    unet_modules,
    vae_modules,
)

HEAD_WIDTH = 64
CLIP = "text_model."  # before each name but the projection's, in transformers' files
# What a network is called in the file, and its config: the names of its tensors by those that they get.
Network = tuple[dict[str, str], dict[str, Any]]


class Shapes(dict[str, tuple[int, ...]]):
    """The shapes of a network's tensors by name; ModelError for one that is missing or too flat."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], source: Path) -> None:
        super().__init__(shapes)
        self.source = source

    def side(self, name: str, axis: int) -> int:
        """How large a tensor is along an axis."""
        shape = self.get(name, ())
        if len(shape) <= axis:
            raise ModelError(
                f"{self.source}: the tensor {name!r} is missing or has no {axis + 1} axes; this is no whole "
                "Stable Diffusion file, get it again"
            )
        return shape[axis]

    def count(self, pattern: str) -> int:
        """How many of what is numbered there are, by a pattern with one group that begins a name."""
        found = {int(match[1]) for name in self if (match := re.match(pattern, name)) is not None}
        if found != set(range(len(found))):
            missing = min(set(range(len(found))) - found)
            raise ModelError(f"{self.source}: number {missing} of {pattern} is missing; get the file again")
        return len(found)

    def called(self, names: Mapping[str, str]) -> "Shapes":
        """The same shapes by other names, without those that get none."""
        twice = [name for name in names if names[name] in names and names[name] != name]
        if twice or len(set(names.values())) < len(names):
            raise ModelError(f"{self.source} holds tensors twice, under two names; get the file again")
        return Shapes({names[name]: shape for name, shape in self.items() if name in names}, self.source)


def unet(shapes: Shapes, family: Family, side: int) -> Network:
    """A denoiser, by the names of LDM."""
    blocks = shapes.count(r"input_blocks\.(\d{1,3})\.")
    downs = [n for n in range(blocks) if f"input_blocks.{n}.0.op.weight" in shapes]
    levels, layers = len(downs) + 1, (downs[0] if downs else blocks) - 1
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    depths = [shapes.count(rf"input_blocks\.{n}\.1\.transformer_blocks\.(\d{{1,3}})\.") for n in firsts]
    attends = [depth > 0 for depth in depths]
    modules = unet_modules(attends, layers)
    names = {name: renamed(name, modules, UNET_INSIDE) for name in shapes}
    ours = shapes.called(names)
    widths = [ours.side(f"down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)]
    depths[-1] = shapes.count(r"middle_block\.1\.transformer_blocks\.(\d{1,3})\.")
    reads = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    kinds = ["CrossAttnDownBlock2D" if reads_text else "DownBlock2D" for reads_text in attends]
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": side // 8,
        "in_channels": ours.side("conv_in.weight", 1),
        "out_channels": ours.side("conv_out.weight", 0),
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": kinds,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        "cross_attention_dim": ours.side(reads, 1),
        "transformer_layers_per_block": [depth or 1 for depth in depths],
        # diffusers counts heads under this name
        "attention_head_dim": [family.heads or max(1, width // HEAD_WIDTH) for width in widths],
        "use_linear_projection": len(ours.get("mid_block.attentions.0.proj_in.weight", ())) == 2,
    }
    if "add_embedding.linear_1.weight" in ours:
        config |= {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": ours.side("add_embedding.linear_1.weight", 1),
        }
    return names, config


def vae(shapes: Shapes, scaling_factor: float, side: int) -> Network:
    """An autoencoder, by the names of LDM or of diffusers."""
    levels = shapes.count(r"encoder\.down(?:_blocks)?\.(\d{1,3})\.")
    layers = shapes.count(r"encoder\.down(?:_blocks)?\.0\.(?:block|resnets)\.(\d{1,3})\.")
    modules = vae_modules(levels, layers)
    names = {name: renamed(name, modules, VAE_INSIDE) for name in shapes if not name.startswith("loss.")}
    ours = shapes.called(names)
    return names, {
        "_class_name": "AutoencoderKL",
        "sample_size": side,
        "in_channels": ours.side("encoder.conv_in.weight", 1),
        "out_channels": ours.side("decoder.conv_out.weight", 0),
        "latent_channels": ours.side("decoder.conv_in.weight", 1),
        "block_out_channels": [
            ours.side(f"encoder.down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)
        ],
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "mid_block_add_attention": any("mid_block.attentions.0." in name for name in ours),
        "use_quant_conv": "quant_conv.weight" in ours,
        "use_post_quant_conv": "post_quant_conv.weight" in ours,
        "scaling_factor": scaling_factor,
    }


def text_encoder(shapes: Shapes, family: Family, open_clip: bool) -> Network:
    """A text encoder, by the names of transformers (OpenAI's CLIP, as files have it) or of OpenCLIP."""
    unread = ["text_projection."]
    if open_clip:
        unread = ["logit_scale", "attn_mask"]
        modules = open_clip_modules(shapes.count(r"transformer\.resblocks\.(\d{1,3})\."))
        if family is SD2:
            unread += ["text_projection", f"transformer.resblocks.{SD2_LAYERS}."]
    names = {
        name: renamed(name, modules, OPEN_CLIP_INSIDE) if open_clip else CLIP + name.removeprefix(CLIP)
        for name in shapes
        if not name.startswith(tuple(unread))
    }
    ours = shapes.called(names)
    width = ours.side(f"{CLIP}embeddings.token_embedding.weight", 1)
    config: dict[str, Any] = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": ours.side(f"{CLIP}embeddings.token_embedding.weight", 0),
        "max_position_embeddings": ours.side(f"{CLIP}embeddings.position_embedding.weight", 0),
        "hidden_size": width,
        "intermediate_size": ours.side(f"{CLIP}encoder.layers.0.mlp.fc1.weight", 0),
        "num_hidden_layers": ours.count(r"text_model\.encoder\.layers\.(\d{1,3})\."),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "hidden_act": "gelu" if open_clip else "quick_gelu",
    }
    if "text_projection.weight" in ours:  # as OpenCLIP has it: read from the left
        config["architectures"] = ["CLIPTextModelWithProjection"]
        config["projection_dim"] = ours.side("text_projection.weight", 1)
    return names, config
