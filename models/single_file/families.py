"""The kinds of single files: those that are opened, by what tells them apart, and those that are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "transformer.", "model."  # how the names of the two text encoders go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the tensors do not say: `side` in pixels, the latents' scale, how wide an attention head is.

    `architecture` is how a file's metadata names it (github.com/Stability-AI/ModelSpec). `encoders` are the
    text encoders by the prefix of their names, and tell the family. Sources: the v1, v2 and sd_xl_base
    configs of CompVis/stable-diffusion and Stability-AI/generative-models.
    """

    name: str
    architecture: str
    side: int
    scaling_factor: float
    encoders: Mapping[str, str]
    heads: int | None = None  # as many in every layer; None: as many as 64 numbers each make


FAMILIES = (
    Family(
        name="Stable Diffusion 1",
        architecture="stable-diffusion-v1",
        side=512,
        scaling_factor=0.18215,
        encoders={"text_encoder": f"cond_stage_model.{CLIP}"},
        heads=8,
    ),
    Family(
        name="Stable Diffusion 2",
        architecture="stable-diffusion-v2-512",
        side=512,
        scaling_factor=0.18215,
        encoders={"text_encoder": f"cond_stage_model.{OPEN_CLIP}"},
    ),
    Family(
        name="SDXL",
        architecture="stable-diffusion-xl-v1-base",
        side=1024,
        scaling_factor=0.13025,
        encoders={
            "text_encoder": f"conditioner.embedders.0.{CLIP}",
            "text_encoder_2": f"conditioner.embedders.1.{OPEN_CLIP}",
        },
    ),
)
SD1, SD2, SDXL = FAMILIES
SIDE_OF_V = 768  # Stable Diffusion 2 was trained on v at this size and on epsilon at 512
SD2_LAYERS = 23  # the states before the last of its text encoder's 24 layers are what it reads

# What is in the files of others, by how names begin behind a denoiser's prefix. The first that fits counts.
OTHERS = {
    "an SDXL refiner, which draws on pictures of SDXL": ("conditioner.embedders.0.model.",),
    "a model of Playground 2.5": ("edm_mean",),
    "a model of AnimateDiff": ("down_blocks.0.motion_modules.", "mid_block.motion_modules."),
    "a model of Stable Cascade": ("clip_txt_mapper.", "down_blocks.1.0.channelwise."),
    "a model of Stable Diffusion 3": ("joint_blocks.", "text_encoders.clip_g."),
    "a model of AuraFlow": ("double_layers.", "cond_seq_linear."),
    "a model of HiDream": ("double_stream_blocks.",),
    "a model of Chroma": ("distilled_guidance_layer.",),
    "a model of FLUX.2": ("single_stream_modulation.",),
    "a model of Hunyuan Video": ("txt_in.individual_token_refiner.",),
    "a model of FLUX": ("double_blocks.", "single_blocks."),
    "a model of LTX-Video": ("patchify_proj.", "vae.decoder.last_scale_shift_table"),
    "a model of Qwen-Image": ("txt_in.text_norm.", "transformer_blocks.0.img_mod."),
    "a model of Mochi": ("blocks.0.attn.qkv_x.",),
    "a model of Lumina or Z-Image": ("cap_embedder.", "layers.0.adaLN_modulation."),
    "a model of Sana": ("blocks.0.cross_attn.q_linear.",),
    "a model of Wan": ("head.modulation", "blocks.0.modulation"),
    "a model of Cosmos": ("net.x_embedder.",),
    "a model of PixArt": ("adaln_single.", "y_embedder."),
    "a ControlNet, which goes beside a model": (
        "control_model.", "controlnet_cond_embedding.", "input_hint_block.",
    ),
    "a LoRA, which goes into the folder of LoRAs": (
        "lora_unet_", "lora_te", "unet.down_blocks.", "text_encoder.text_model.",
    ),
    "a textual inversion, whose words go beside a model": ("emb_params", "clip_l", "clip_g"),
    "an autoencoder alone, which goes beside a model (--vae)": ("encoder.conv_in.", "decoder.conv_in."),
}  # fmt: skip


def family_of(names: Iterable[str]) -> Family | None:
    """The family that is opened and has such tensors; None for no one."""
    begins = {".".join(name.split(".")[:length]) + "." for name in names for length in (2, 4)}
    found = [one for one in FAMILIES if begins >= set(one.encoders.values())]
    return found[0] if found else None


def other_kind(names: Iterable[str]) -> str | None:
    """What a file is that none of the families opened made, in words; None where that is not known."""
    bare = [name.removeprefix(UNET) for name in names]
    for kind, begins in OTHERS.items():
        if any(name.startswith(begins) for name in bare):
            return kind
    return None
