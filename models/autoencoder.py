"""Stage 1 of latent diffusion: between pixels and latents (Rombach et al. 2022, section 3.1)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn

from models.errors import ConfigError
from models.normalizer import LatentNormalizer
from models.pixels import Pixels

Regularizer = Literal["kl", "vq"]
LATENTS_AT_ONCE = 4096  # with 16,384 codes a quarter of a GB of distances
# A picture is folded by 2x2 pixel-unshuffle first (12 channels), so every level works at half the size;
# convolutions alone, so that what is trained on crops can be used at any size.
FOLDED: dict[str, Any] = {
    "in_channels": 12,
    "out_channels": 12,
    "mid_block_add_attention": False,
    "sample_size": 64,
}
TINY = {"block_out_channels": (16, 32), "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 8}
SMALL: dict[str, Any] = {"layers_per_block": 1, "norm_num_groups": 16}
SMALL_F4 = SMALL | {"block_out_channels": (32, 64), "latent_channels": 3}
SMALL_F8 = SMALL | {"block_out_channels": (32, 64, 96), "latent_channels": 8}
SMALL_F16 = SMALL | {"block_out_channels": (32, 64, 96, 96)}
STARTER = {
    "block_out_channels": (48, 96, 192),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 16,
}
# f4, f8 and f16 are those of the latent diffusion paper, table 8 and configs/autoencoder of its code.
PRESETS: dict[str, dict[Regularizer, dict[str, Any]]] = {
    # f is 2^(levels - 1), twice as much where pixels are folded
    "tiny": {"kl": FOLDED | TINY, "vq": FOLDED | TINY | {"num_vq_embeddings": 64}},
    "small-f4": {"kl": FOLDED | SMALL_F4, "vq": FOLDED | SMALL_F4 | {"num_vq_embeddings": 1024}},
    "small-f8": {"kl": FOLDED | SMALL_F8, "vq": FOLDED | SMALL_F8 | {"num_vq_embeddings": 1024}},
    "small-f16": {
        "kl": FOLDED | SMALL_F16 | {"latent_channels": 16},
        "vq": FOLDED | SMALL_F16 | {"latent_channels": 8, "num_vq_embeddings": 1024},
    },
    "starter": {"kl": FOLDED | STARTER, "vq": FOLDED | STARTER | {"num_vq_embeddings": 1024}},
    "f4": {
        "kl": {"block_out_channels": (128, 256, 512), "latent_channels": 3},
        "vq": {"block_out_channels": (128, 256, 512), "latent_channels": 3, "num_vq_embeddings": 8192},
    },
    "f8": {
        "kl": {"block_out_channels": (128, 256, 512, 512), "latent_channels": 4},
        "vq": {
            "block_out_channels": (128, 256, 256, 512),
            "latent_channels": 4,
            "num_vq_embeddings": 16384,
            "attention": True,
        },
    },
    "f16": {
        "kl": {"block_out_channels": (128, 128, 256, 256, 512), "latent_channels": 16, "attention": True},
        "vq": {
            "block_out_channels": (128, 128, 256, 256, 512),
            "latent_channels": 8,
            "num_vq_embeddings": 16384,
            "attention": True,
        },
    },
}


class Autoencoder(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] to normalised latents (B, C, H/f, W/f) and back.

    With a `VQModel` the latents are those before quantisation, and the quantiser belongs to the decoder (as
    in VQModelInterface of the paper's code), so both kinds give continuous latents. `Pixels` have none to
    regularise: f is 1, and their latents are the picture.
    """

    def __init__(self, vae: AutoencoderKL | VQModel | Pixels) -> None:
        super().__init__()
        self.vae: Any = vae
        self.regularizer: Regularizer | None = "vq" if isinstance(vae, VQModel) else "kl"
        if isinstance(vae, Pixels):
            self.regularizer = None
        self.patch_size = round((vae.config.in_channels / 3) ** 0.5)
        if vae.config.in_channels != 3 * self.patch_size**2:
            raise ConfigError(
                f"an autoencoder with {vae.config.in_channels} input channels cannot read colour pictures; "
                "use 3, or 12 for 2x2 pixel-unshuffled ones"
            )
        self.latent_channels: int = vae.config.get("vq_embed_dim") or vae.config.latent_channels
        self.downsampling_factor = self.patch_size * 2 ** (len(vae.config.block_out_channels) - 1)
        self.normalizer = LatentNormalizer(vae.config)

    def posterior(self, pixels: Tensor) -> DiagonalGaussianDistribution:
        """The raw Gaussian q(z | x) of a KL encoder, before normalisation."""
        folded = F.pixel_unshuffle(pixels, self.patch_size)  # (B, 3 p p, H/p, W/p)
        posterior: DiagonalGaussianDistribution = self.vae.encode(folded).latent_dist  # (B, C, H/f, W/f)
        return posterior

    def raw_latents(self, pixels: Tensor) -> Tensor:
        """Latents (B, C, H/f, W/f) before normalisation: the posterior's mode, or what VQ will quantise."""
        latents: Tensor
        if self.regularizer == "kl":
            latents = self.posterior(pixels).mode()
        else:
            latents = self.vae.encode(F.pixel_unshuffle(pixels, self.patch_size)).latents
        return latents

    def quantize(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest code of each raw latent (B, C, h, w), and its number (B, h, w)."""
        codebook = self.vae.quantize.embedding  # (K, C)
        rows = raw.detach().float().permute(0, 2, 3, 1)  # (B, h, w, C)
        with torch.no_grad():  # in parts, since every latent is compared with every code
            nearest = [
                torch.cdist(part, codebook.weight.float()).argmin(1)
                for part in torch.split(rows.flatten(0, 2), LATENTS_AT_ONCE)
            ]
        numbers = torch.cat(nearest).view(rows.shape[:3])
        codes: Tensor = codebook(numbers).permute(0, 3, 1, 2)
        return codes, numbers

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, h, w), with VQ quantised ones, to pixels (B, 3, h f, w f)."""
        options = {"force_not_quantize": True} if self.regularizer == "vq" else {}
        folded: Tensor = self.vae.decode(raw, **options).sample  # (B, 3 p p, H/p, W/p)
        return F.pixel_shuffle(folded, self.patch_size)  # (B, 3, H, W)

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised latents of a picture: the mode, or with KL a sample when a generator is given."""
        if generator is None or self.regularizer != "kl":
            return self.normalizer.normalize(self.raw_latents(pixels))
        return self.normalizer.normalize(self.posterior(pixels).sample(generator))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of normalised latents, with VQ of their nearest codes; about [-1, 1] and not clamped."""
        return self.reconstruct(self.decodable(latents))

    def decodable(self, latents: Tensor) -> Tensor:
        """What `reconstruct` reads of normalised latents: raw ones, with VQ their nearest codes."""
        raw = self.normalizer.denormalize(latents)
        return self.quantize(raw)[0] if self.regularizer == "vq" else raw


def build_autoencoder(preset: str, regularizer: Regularizer = "kl") -> Autoencoder:
    """An untrained autoencoder of a named size.

    Raises: ConfigError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown autoencoder preset {preset!r}; choose from {', '.join(PRESETS)}")
    sizes = {"layers_per_block": 2, "sample_size": 256, **PRESETS[preset][regularizer]}
    plain_levels = len(sizes["block_out_channels"]) - 1
    attention = "Attn" if sizes.pop("attention", False) else ""  # at the coarsest level
    return Autoencoder(
        (AutoencoderKL if regularizer == "kl" else VQModel)(
            down_block_types=("DownEncoderBlock2D",) * plain_levels + (f"{attention}DownEncoderBlock2D",),
            up_block_types=(f"{attention}UpDecoderBlock2D",) + ("UpDecoderBlock2D",) * plain_levels,
            scaling_factor=1.0,
            **sizes,
        )
    )
