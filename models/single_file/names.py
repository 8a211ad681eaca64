"""What Stable Diffusion's tensors are called in single files, and what the same are called in model folders.

Single files have the names of the code that was trained: LDM's for denoiser and autoencoder (CompVis
latent-diffusion, ldm/modules), OpenCLIP's for the text encoder of 2.x and the second one of SDXL. Folders
have those of diffusers and of transformers' files. Each table here goes from the former to the latter, by the
longest module that begins a name.
"""

from collections.abc import Mapping, Sequence

UNET_INSIDE = {  # a residual block
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_INSIDE = {  # a residual block, and the attention in the middle
    "nin_shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
OPEN_CLIP_INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn": "self_attn",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def unet_modules(attends: Sequence[bool], layers: int) -> dict[str, str]:
    """The modules of a UNet with so many residual blocks a level; `attends` says which levels read text."""
    modules = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    for level, reads in enumerate(reversed(attends)):
        first = level * (layers + 1)
        for layer in range(layers):
            modules[f"input_blocks.{first + 1 + layer}.0"] = f"down_blocks.{level}.resnets.{layer}"
            modules[f"input_blocks.{first + 1 + layer}.1"] = f"down_blocks.{level}.attentions.{layer}"
        modules[f"input_blocks.{first + 1 + layers}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        for layer in range(layers + 1):
            modules[f"output_blocks.{first + layer}.0"] = f"up_blocks.{level}.resnets.{layer}"
            modules[f"output_blocks.{first + layer}.1"] = f"up_blocks.{level}.attentions.{layer}"
        behind = 2 if reads else 1  # what is upsampled comes behind the attention, if there is any
        modules[f"output_blocks.{first + layers}.{behind}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return modules


def vae_modules(levels: int, layers: int) -> dict[str, str]:
    """The modules of an autoencoder; LDM counts the decoder's levels from the picture, diffusers to it."""
    modules: dict[str, str] = {}
    for side, way in (("encoder", "down"), ("decoder", "up")):
        modules |= {
            f"{side}.norm_out": f"{side}.conv_norm_out",
            f"{side}.mid.block_1": f"{side}.mid_block.resnets.0",
            f"{side}.mid.attn_1": f"{side}.mid_block.attentions.0",
            f"{side}.mid.block_2": f"{side}.mid_block.resnets.1",
        }
        for level in range(levels):
            block = f"{side}.{way}_blocks.{level if way == 'down' else levels - 1 - level}"
            for layer in range(layers if way == "down" else layers + 1):
                modules[f"{side}.{way}.{level}.block.{layer}"] = f"{block}.resnets.{layer}"
            modules[f"{side}.{way}.{level}.{way}sample.conv"] = f"{block}.{way}samplers.0.conv"
    return modules


def open_clip_modules(layers: int) -> dict[str, str]:
    """The modules of OpenCLIP's text encoder; two of its tensors belong to none."""
    return {
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding": "text_model.embeddings.token_embedding",
        "ln_final": "text_model.final_layer_norm",
        "text_projection": "text_projection.weight",
        **{f"transformer.resblocks.{layer}": f"text_model.encoder.layers.{layer}" for layer in range(layers)},
    }


def renamed(name: str, modules: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """A tensor's name by the other convention; itself where no module is known."""
    for end in range(len(name), 0, -1):
        if (end == len(name) or name[end] == ".") and name[:end] in modules:
            part, _, leaf = name[end + 1 :].rpartition(".")
            inner = inside.get(part, part)
            return ".".join(filter(None, (modules[name[:end]], inner, leaf)))
    return name


def reversed_table(table: Mapping[str, str]) -> dict[str, str]:
    """The table from folders to single files."""
    return {ours: theirs for theirs, ours in table.items()}
