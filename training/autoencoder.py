"""`train autoencoder`: stage 1, pixels to latents and back (Rombach et al. 2022, section 3.1)."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Autoencoder, build_autoencoder
from models.errors import ConfigError
from models.folder import load_autoencoder, save_part
from models.normalizer import fold_normalization
from pipelines.text_to_image import to_images
from training import losses
from training.config import AutoencoderConfig, AutoencoderModel, Data, load_config
from training.data.order import Order, bucket_shapes
from training.data.pictures import MAX_HELD_OUT, chunks, load_pictures
from training.distributed import connect
from training.grid import save_grid
from training.loop import start
from training.measures import psnr
from training.run import nothing_kept
from training.seeds import normal, uniform

if TYPE_CHECKING:
    from models.features import FeatureNetwork


class AutoencoderObjective(nn.Module):
    """Encode, decode and loss in one forward."""

    def __init__(
        self, autoencoder: Autoencoder, config: AutoencoderModel, features: "FeatureNetwork | None"
    ) -> None:
        super().__init__()
        self.autoencoder, self.config, self.features = autoencoder, config, features

    def forward(self, pixels: Tensor, noise: Tensor, move: int | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms of crops (B, 3, H, W) in [-1, 1], with the latents' noise (B, C, h, w).

        `move` is the number of the transformation that the decoder must follow, None for none.
        """
        posterior = self.autoencoder.posterior(pixels)
        latents = posterior.mean + posterior.std * noise  # (B, C, h, w)
        if move is not None:
            latents, pixels = transform(latents, move), transform(pixels, move)
        output = self.autoencoder.reconstruct(latents).float()  # (B, 3, H, W)
        terms = {"reconstruction": losses.reconstruction(output, pixels), "kl": losses.kl(posterior)}
        loss = terms["reconstruction"] + self.config.kl_weight * terms["kl"]
        if self.config.gradient_weight:
            terms["gradient"] = losses.gradient(output, pixels)
            loss = loss + self.config.gradient_weight * terms["gradient"]
        if self.features is not None:
            terms["perceptual"] = losses.perceptual(self.features, output, pixels)
            loss = loss + self.config.perceptual_weight * terms["perceptual"]
        return loss, terms


def transform(x: Tensor, move: int) -> Tensor:
    """One quarter turn (0, 1, 2) or a halving of (B, C, H, W), on pixels and latents alike (EQ-VAE)."""
    return torch.rot90(x, move + 1, (2, 3)) if move < 3 else F.avg_pool2d(x, 2)


class AutoencoderStage:
    """Stage 1 for the training loop."""

    cache_bytes = 0

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        torch.manual_seed(config.training.seed)
        self.trained = build_autoencoder(config.autoencoder.preset)
        if config.init.model:
            self.trained = load_autoencoder(Path(config.init.model)).train().requires_grad_()
        if config.training.gradient_checkpointing:
            self.trained.vae.enable_gradient_checkpointing()
        check_sizes(self.trained.downsampling_factor, config.data)
        self.pictures, held_out, self.skipped = load_pictures(config.data)
        self.order = Order(self.pictures.buckets, config.training.batch_size, config.training.seed)
        held_out = held_out.spread(MAX_HELD_OUT)
        self.held_out = held_out.batch(range(len(held_out)))  # (N, 3, H, W)
        features = None
        if config.autoencoder.perceptual_weight:
            from models.features import load_feature_network

            features = load_feature_network()
        self.objective: nn.Module = AutoencoderObjective(self.trained, config.autoencoder, features)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.trained.parameters())}]

    def batch(self, step: int, positions: range) -> tuple[Tensor, Tensor, int | None]:
        """Random crops (B, 3, crop, crop), noise for their latents (B, C, h, w), and the step's move."""
        options, data = self.config.training, self.config.data
        order = self.order.batch(step)
        pixels = self.pictures.batch([order[position] for position in positions])  # (B, 3, H, W)
        height, width = (data.crop or side for side in pixels.shape[2:])
        tops, lefts = (
            (uniform(options.seed, step, positions, side) * (whole - part + 1)).long().tolist()
            for side, whole, part in (("top", pixels.shape[2], height), ("left", pixels.shape[3], width))
        )
        pixels = torch.stack(
            [
                picture[:, top : top + height, left : left + width]
                for picture, top, left in zip(pixels, tops, lefts, strict=True)
            ]
        )
        flipped = uniform(options.seed, step, positions, "flip") < data.flip  # (B,)
        pixels = torch.where(flipped[:, None, None, None], pixels.flip(3), pixels)
        factor = self.trained.downsampling_factor
        shape = (self.trained.latent_channels, height // factor, width // factor)
        noise = normal(shape, options.seed, step, positions, "posterior")
        moved, which = uniform(options.seed, step, (0, 1), "move").tolist()
        move = int(6 * which) if moved < self.config.autoencoder.equivariance else None
        return pixels.to(self.device), noise.to(self.device), move

    def after_step(self, step: int) -> None:
        """Nothing: the optimiser does it all."""

    @torch.inference_mode()
    def sample(self, averaged: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Write held-out pictures above their reconstructions; their mean PSNR in dB."""
        assert isinstance(averaged, Autoencoder)
        batches = [self.held_out[batch].to(self.device) for batch in chunks(range(len(self.held_out)), 16)]
        outputs = torch.cat([averaged.decode(averaged.encode(x)).cpu() for x in batches])
        shown = range(min(12, len(outputs)))
        pairs = torch.stack([x for i in shown for x in (self.held_out[i], outputs[i])])
        save_grid(to_images(pairs), folder / f"step-{step:07d}.png", columns=6)
        return {"held_out_psnr_db": float(psnr(outputs, self.held_out).mean())}

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write `vae/` with the latents' affine folded in, measured over the training pictures."""
        assert isinstance(averaged, Autoencoder)
        mean, std = self.latent_statistics(averaged, limit=1024)
        folded = Autoencoder.from_config(averaged.vae.config)
        folded.load_state_dict(averaged.state_dict())
        fold_normalization(folded.vae, mean, std)
        save_part(folded.vae, folder / "vae")

    @torch.inference_mode()
    def latent_statistics(self, autoencoder: Autoencoder, limit: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of the raw latents over up to `limit` training pictures."""
        pictures = self.pictures.square().spread(limit)
        count, total, squares = 0, 0.0, 0.0
        for batch in chunks(range(len(pictures)), 32):
            latents = autoencoder.posterior(pictures.batch(batch).to(self.device)).mode().double().cpu()
            count += latents.numel() // latents.shape[1]
            total = total + latents.sum((0, 2, 3))
            squares = squares + latents.square().sum((0, 2, 3))
        mean = torch.as_tensor(total / count)
        return mean.float(), (torch.as_tensor(squares / count) - mean**2).sqrt().float()

    @property
    def device(self) -> torch.device:
        """Where the autoencoder is trained."""
        return next(self.trained.parameters()).device


def check_sizes(factor: int, data: Data) -> None:
    """Refuse sizes in pixels that the autoencoder's downsampling does not divide; ConfigError."""
    shapes = bucket_shapes(data.resolution, data.buckets, data.bucket_multiple)
    smallest = min(min(shape) for shape in shapes)
    if data.crop > smallest:
        raise ConfigError(f"data.crop is {data.crop}, more than the shortest side, {smallest}; lower it")
    # Half of a latent must be whole too, for the halving of the equivariance loss.
    if data.crop % (2 * factor) or data.resolution % factor:
        raise ConfigError(
            f"data.resolution {data.resolution} must be a multiple of {factor}, data.crop {data.crop} of "
            f"{2 * factor}"
        )
    if len(shapes) > 1 and data.bucket_multiple % factor:
        raise ConfigError(f"data.bucket_multiple {data.bucket_multiple} must be a multiple of {factor}")


def main(args: Namespace) -> int:
    """Run the command; `args` has config, set, run and dry_run."""
    config: Any = load_config(AutoencoderConfig, args.config, args.set)
    accelerator = connect(config.training)
    with nothing_kept(args.dry_run):
        stage = AutoencoderStage(config)
        size = sum(p.numel() for p in stage.trained.parameters()) / 1e6
        print(
            f"autoencoder of {size:.1f} M parameters, f = {stage.trained.downsampling_factor}, on "
            f"{len(stage.pictures)} pictures ({stage.skipped} files skipped)"
        )
        start(stage, config, accelerator, args.run, args.dry_run)
    return 0
