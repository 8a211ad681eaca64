"""How LoRA files name the layers that they adapt: as PEFT, diffusers, kohya's scripts and LyCORIS write them.

The writers differ in prefixes, in where they put dots and underscores, and in whose names they use for a
UNet's blocks, diffusers' or LDM's. So a name is looked up in a table of a network's own layers, never taken
apart. Nothing here needs torch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# What stands behind a layer's name, and which tensor of the layer it says that this is.
_KIND = re.compile(
    r"(?:\.lora_(?:(?P<peft>[AB])(?:\.[\w-]+)?|(?P<kohya>down|up|mid))\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?P<old>down|up)\.weight|\.alpha)\Z"
)
_PEFT = {"A": "down", "B": "up"}
# What stands before it, and the part that it names; "" where any part may have the layer.
_PREFIXES = {
    "unet.base_model.model.": "unet",
    "text_encoder.base_model.model.": "text_encoder",
    "text_encoder_2.base_model.model.": "text_encoder_2",
    "base_model.model.": "",
    "diffusion_model.": "unet",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lycoris_unet_": "unet",
    "lycoris_te_": "text_encoder",
    "lycoris_te1_": "text_encoder",
    "lycoris_te2_": "text_encoder_2",
    "lycoris_": "",
}
# The kinds of adapter that are not read, and what tells each from the names of its tensors.
_OTHER_KINDS = {
    "LoHa": r"\.hada_",
    "LoKr": r"\.lokr_",
    "DoRA": r"\.(dora_scale|lora_magnitude_vector)",
    "OFT": r"\.b?oft_",
    "IA3": r"\.(on_input|ia3_l)",
    "VeRA": r"\.vera_lambda",
    "GLoRA": r"\.[ab][12]\.weight\Z",
    "LoRA with norms": r"\.[wb]_norm\Z",
    "LoRA with biases": r"\.lora_(B|up)\.bias\Z",
    "LoRA of token embeddings": r"\.lora_embedding_",
    "whole difference of weights": r"\.diff(_b)?\Z",
    "textual inversion": r"\A(emb_params|clip_[lg])\Z",
}
# What the blocks of the newer families are called, whose models are no UNets.
_NEWER = re.compile(
    r"double_blocks|single_blocks|joint_blocks|single_transformer_blocks|^(lora_)?transformer[._]"
)
# Names of LDM, and what diffusers calls the same layers of a residual block or a change of size.
_LDM_INNER = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_LDM_OUTER = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding_linear_1": "time_embed_0",
    "time_embedding_linear_2": "time_embed_2",
    "add_embedding_linear_1": "label_emb_0_0",
    "add_embedding_linear_2": "label_emb_0_2",
}
# What older versions of diffusers call the attention of CLIP.
_OLD_CLIP = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def read_name(name: str) -> tuple[str, str, str] | None:
    """The part, the layer and the kind (down, up, mid or alpha) of a tensor; None where it is no LoRA's.

    The part is "" where any may be meant; the layer's name has no dots.
    """
    match = _KIND.search(name)
    if match is None:
        return None
    kind = _PEFT.get(match["peft"] or "") or match["kohya"] or match["old"] or "alpha"
    layer, part = name[: match.start()], ""
    prefix = max((known for known in _PREFIXES if layer.startswith(known)), key=len, default=None)
    if prefix is not None:
        layer, part = layer.removeprefix(prefix), _PREFIXES[prefix]
    return part, _joined(layer), kind


def other_kind(names: Iterable[str]) -> str:
    """The kind of adapter that tensors of these names are of, where it is one that is not read; else ""."""
    listed = list(names)
    return next(
        (kind for kind, mark in _OTHER_KINDS.items() if any(re.search(mark, name) for name in listed)), ""
    )


def is_newer(names: Iterable[str]) -> bool:
    """Whether the tensors adapt a transformer: FLUX's, Stable Diffusion 3's."""
    return any(_NEWER.search(name) for name in names)


def layer_tables(networks: Mapping[str, "nn.Module"]) -> dict[str, dict[str, str]]:
    """The paths of the layers of each network, by every name that files have for them."""
    return {part: dict(_names(network)) for part, network in networks.items()}


def find_layer(tables: Mapping[str, Mapping[str, str]], part: str, layer: str) -> tuple[str, str] | None:
    """The part and the path of a layer that a file names; None where no network has it."""
    for own in (part,) if part else tables:
        if path := tables.get(own, {}).get(layer):
            return own, path
    return None


def _joined(path: str) -> str:
    """A layer's name without dots, and without what only some writers put into it."""
    return path.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")


def _names(network: "nn.Module") -> Iterator[tuple[str, str]]:
    blocks = dict(_ldm_blocks(network))
    for path, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim < 2:
            continue
        name = _joined(path)
        yield name, path
        if name.endswith("_to_out_0"):
            yield name.removesuffix("_0"), path
        last = path.rpartition(".")[2]
        if last in _OLD_CLIP:
            yield name.removesuffix(last) + _OLD_CLIP[last], path
        if name in _LDM_OUTER:
            yield _LDM_OUTER[name], path
        block = next((block for block in blocks if path.startswith(f"{block}.")), None)
        if block is not None:
            inner = path.removeprefix(f"{block}.").replace(".", "_")
            if ".downsamplers." in block:
                inner = "op"
            yield f"{blocks[block]}_{_LDM_INNER.get(inner, inner)}", path


def _ldm_blocks(network: "nn.Module") -> Iterator[tuple[str, str]]:
    """The blocks of a UNet of diffusers by path, and what LDM calls them, which numbers them through."""
    number = 1  # 0 is conv_in
    for i, block in enumerate(getattr(network, "down_blocks", ())):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks_{number}_0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks_{number}_1"
            number += 1
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0", f"input_blocks_{number}_0"
            number += 1
    for j in range(2):
        yield f"mid_block.resnets.{j}", f"middle_block_{2 * j}"
    yield "mid_block.attentions.0", "middle_block_1"
    number = 0
    for i, block in enumerate(getattr(network, "up_blocks", ())):
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks_{number}_0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks_{number}_1"
            number += 1
        if block.upsamplers:
            place = 2 if getattr(block, "attentions", None) else 1
            yield f"up_blocks.{i}.upsamplers.0", f"output_blocks_{number - 1}_{place}"
