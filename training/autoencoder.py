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
from training.config import AutoencoderConfig, AutoencoderModel, load_config
from training.data.pictures import MAX_HELD_OUT, batch_indices, chunks, load_pictures
from training.grid import save_grid
from training.loop import start
from training.measures import psnr
from training.seeds import seed_for

if TYPE_CHECKING:
    from models.features import FeatureNetwork


class AutoencoderObjective(nn.Module):
    """Encode, decode and loss in one forward."""

    def __init__(
        self, autoencoder: Autoencoder, config: AutoencoderModel, features: "FeatureNetwork | None"
    ) -> None:
        super().__init__()
        self.autoencoder, self.config, self.features = autoencoder, config, features

    def forward(self, pixels: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms of crops (B, 3, H, W) in [-1, 1]; `seed` decides every random draw."""
        generator = torch.Generator(pixels.device).manual_seed(seed)
        posterior = self.autoencoder.posterior(pixels)
        latents = posterior.sample(generator)  # (B, C, h, w)
        if torch.rand((), generator=generator, device=pixels.device) < self.config.equivariance:
            latents, pixels = transform(latents, pixels, generator)
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


def transform(latents: Tensor, pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One quarter turn or halving of both latents and pixels, which the decoder must follow (EQ-VAE)."""
    choice = int(torch.randint(0, 6, (), generator=generator, device=latents.device))
    if choice < 3:
        return torch.rot90(latents, choice + 1, (2, 3)), torch.rot90(pixels, choice + 1, (2, 3))
    return F.avg_pool2d(latents, 2), F.avg_pool2d(pixels, 2)


class AutoencoderStage:
    """Stage 1 for the training loop."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        data = config.data
        self.pictures, held_out, self.skipped = load_pictures(Path(data.path), data.resolution, data.split)
        stride = -(-len(held_out) // MAX_HELD_OUT)
        self.held_out = held_out.batch(list(range(0, len(held_out), stride)))  # (N, 3, H, W)
        torch.manual_seed(config.training.seed)
        self.trained = build_autoencoder(config.autoencoder.preset)
        if config.init.model:
            self.trained = load_autoencoder(Path(config.init.model)).train().requires_grad_()
        check_sizes(self.trained.downsampling_factor, data.resolution, data.crop)
        features = None
        if config.autoencoder.perceptual_weight:
            from models.features import load_feature_network

            features = load_feature_network()
        self.objective: nn.Module = AutoencoderObjective(self.trained, config.autoencoder, features)

    def batch(self, step: int) -> tuple[Tensor, int]:
        """Random crops (B, 3, crop, crop) of the pictures of this step, and the seed of its noise."""
        options = self.config.training
        generator = torch.Generator().manual_seed(seed_for(options.seed, step, "crops"))
        size = self.config.data.crop or self.config.data.resolution
        room = self.config.data.resolution - size + 1
        crops = []
        for index in batch_indices(len(self.pictures), options.batch_size, options.seed, step):
            top, left = torch.randint(0, room, (2,), generator=generator).tolist()
            crops.append(self.pictures[index][:, top : top + size, left : left + size])
        device = next(self.trained.parameters()).device
        return torch.stack(crops).to(device), seed_for(options.seed, step, "noise")

    @torch.inference_mode()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Write held-out pictures above their reconstructions; their mean PSNR in dB."""
        device = next(self.trained.parameters()).device
        batches = [self.held_out[batch] for batch in chunks(range(len(self.held_out)), 16)]
        outputs = torch.cat([self.trained.decode(self.trained.encode(x.to(device))).cpu() for x in batches])
        shown = range(min(12, len(outputs)))
        pairs = torch.stack([x for i in shown for x in (self.held_out[i], outputs[i])])
        save_grid(to_images(pairs), folder / f"step-{step:07d}.png", columns=6)
        return {"held_out_psnr_db": float(psnr(outputs, self.held_out).mean())}

    def export(self, folder: Path) -> None:
        """Write `vae/` with the latents' affine folded in, measured over the training pictures."""
        mean, std = self.latent_statistics(limit=1024)
        folded = Autoencoder.from_config(self.trained.vae.config)
        folded.load_state_dict(self.trained.state_dict())
        fold_normalization(folded.vae, mean, std)
        save_part(folded.vae, folder / "vae")

    @torch.inference_mode()
    def latent_statistics(self, limit: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of the raw latents over up to `limit` training pictures."""
        device = next(self.trained.parameters()).device
        stride = max(1, len(self.pictures) // limit)
        count, total, squares = 0, 0.0, 0.0
        for batch in chunks(range(0, len(self.pictures), stride), 32):
            latents = self.trained.posterior(self.pictures.batch(batch).to(device)).mode().double().cpu()
            count += latents.numel() // latents.shape[1]
            total = total + latents.sum((0, 2, 3))
            squares = squares + latents.square().sum((0, 2, 3))
        mean = torch.as_tensor(total / count)
        return mean.float(), (torch.as_tensor(squares / count) - mean**2).sqrt().float()


def check_sizes(factor: int, resolution: int, crop: int = 0) -> None:
    """Refuse sizes in pixels that the autoencoder's downsampling does not divide; ConfigError."""
    if crop > resolution:
        raise ConfigError(f"data.crop is {crop}, more than data.resolution, {resolution}; lower it")
    # Half of a latent must be whole too, for the halving of the equivariance loss.
    if crop % (2 * factor) or resolution % factor:
        raise ConfigError(
            f"data.resolution {resolution} must be a multiple of {factor}, data.crop {crop} of {2 * factor}"
        )


def main(args: Namespace) -> int:
    """Run the command; `args` has config, set, run and dry_run."""
    config: Any = load_config(AutoencoderConfig, args.config, args.set)
    stage = AutoencoderStage(config)
    size = sum(p.numel() for p in stage.trained.parameters()) / 1e6
    print(
        f"autoencoder of {size:.1f} M parameters, f = {stage.trained.downsampling_factor}, on "
        f"{len(stage.pictures)} pictures ({len(stage.skipped)} files skipped)"
    )
    start(stage, config, args.run, args.dry_run)
    return 0
