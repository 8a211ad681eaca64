"""`train autoencoder`: stage 1, pixels to latents and back (Rombach et al. 2022, section 3.1)."""

import copy
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoder import Autoencoder, build_autoencoder
from models.discriminator import PatchDiscriminator
from models.errors import ConfigError
from models.features import load_feature_network
from models.folder import load_autoencoder, save_part
from models.lpips import LpipsVgg
from models.normalizer import fold_normalization
from models.pixels import Pixels
from models.upsampling import upsample_on_small_grids
from pipelines.decoding import to_images
from training.autoencoder_objective import MOVES, AutoencoderObjective, AutoencoderParts
from training.codebook import codebook_measures
from training.config import AutoencoderConfig, Data, load_config
from training.data.order import Order, bucket_shapes
from training.data.pictures import MAX_HELD_OUT, Pictures, chunks, load_pictures
from training.distributed import connect
from training.finetune import check_preset, resolve_autoencoder
from training.grid import save_grid
from training.loop import start
from training.losses import FeatureMaps
from training.measures import psnr
from training.runs import nothing_kept
from training.seeds import normal, uniform

DISCRIMINATOR_BETAS = (0.5, 0.9)  # Esser et al. 2021 and the latent diffusion paper's code


class AutoencoderStage:
    """Stage 1 for the training loop."""

    cache_bytes = 0

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config = resolve_autoencoder(config)
        check_sharding(config)
        data, model = config.data, config.autoencoder
        torch.manual_seed(config.training.seed)
        autoencoder = starting_autoencoder(config)
        upsample_on_small_grids(autoencoder)
        self.trained = AutoencoderParts(autoencoder, model, trained_before=bool(config.init.model))
        check_sizes(autoencoder.downsampling_factor, data)
        check_moves(autoencoder.downsampling_factor, config, self.trained.discriminator)
        self.pictures, held_out, self.skipped = load_pictures(data)
        self.order = Order(self.pictures.buckets, config.training.batch_size, config.training.seed)
        held_out = held_out.spread(MAX_HELD_OUT)
        self.held_out = held_out.batch(range(len(held_out)))  # (N, 3, H, W)
        features: FeatureMaps | None = None
        if model.perceptual_weight:
            features = LpipsVgg.from_file(model.perceptual) if model.perceptual else load_feature_network()
        self.objective: nn.Module = AutoencoderObjective(self.trained, model, features)
        self.turning_steps = (model.adversarial_start_step,) if model.adversarial_weight else ()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The autoencoder with its logvar, and the discriminator with its own settings."""
        trained = self.trained
        groups: list[dict[str, Any]] = [{"params": [*trained.autoencoder.parameters(), trained.logvar]}]
        if trained.discriminator is not None:
            # Without weight decay, so that it waits for its start as it was made.
            own = {"betas": DISCRIMINATOR_BETAS, "weight_decay": 0.0}
            groups.append({"params": list(trained.discriminator.parameters()), **own})
        return groups

    def batch(self, step: int, positions: range) -> tuple[Tensor, Tensor | None, int | None, bool]:
        """Random crops (B, 3, crop, crop), noise for their latents (B, C, h, w), and what the step does.

        Noise is for the posterior of KL alone; of the step there are its move and whether the discriminator
        plays yet.
        """
        options, data, model = self.config.training, self.config.data, self.config.autoencoder
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
        autoencoder, noise = self.trained.autoencoder, None
        if autoencoder.regularizer == "kl":
            factor = autoencoder.downsampling_factor
            shape = (autoencoder.latent_channels, height // factor, width // factor)
            noise = normal(shape, options.seed, step, positions, "posterior").to(self.device)
        moved, which = uniform(options.seed, step, (0, 1), "move").tolist()
        move = int(MOVES * which) if moved < model.equivariance else None
        return pixels.to(self.device), noise, move, step >= model.adversarial_start_step

    def after_step(self, step: int) -> None:
        """Move dead codes onto latents of the step."""
        if self.trained.codebook_usage is not None:
            codes = self.trained.autoencoder.vae.quantize.embedding.weight
            self.trained.codebook_usage.revive(codes, self.config.training.seed, step)

    @torch.inference_mode()
    def sample(self, averaged: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Write held-out pictures above their reconstructions; PSNR in dB, and how their latents spread."""
        assert isinstance(averaged, AutoencoderParts)
        autoencoder = averaged.autoencoder
        batches = [self.held_out[batch].to(self.device) for batch in chunks(range(len(self.held_out)), 16)]
        latents = [autoencoder.encode(x) for x in batches]  # (n, C, h, w) each
        outputs = torch.cat([autoencoder.decode(z).cpu() for z in latents])  # (N, 3, H, W)
        shown = range(min(12, len(outputs)))
        pairs = torch.stack([x for i in shown for x in (self.held_out[i], outputs[i])])
        save_grid(to_images(pairs), folder / f"step-{step:07d}.png", columns=6)
        raw = [autoencoder.normalizer.denormalize(z) for z in latents]
        spread = torch.cat(raw).std((0, 2, 3))  # (C,)
        measures = {
            "held_out_psnr_db": float(psnr(outputs, self.held_out).mean()),
            "latent_std": float(spread.mean()),
            "latent_std_lowest": float(spread.min()),  # of a channel
        }
        if averaged.codebook_usage is not None:
            numbers = torch.cat([autoencoder.quantize(z)[1].flatten() for z in raw])
            counts = numbers.bincount(minlength=len(averaged.codebook_usage.idle_steps))
            measures |= {f"held_out_{name}": float(v) for name, v in codebook_measures(counts).items()}
        return measures

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write `vae/` with the latents' affine folded in, measured over the training pictures.

        Latents of a frozen encoder are left as they are: a denoiser knows them.
        """
        assert isinstance(averaged, AutoencoderParts)
        folded = copy.deepcopy(averaged.autoencoder)
        if not self.config.autoencoder.decoder_only:
            fold_normalization(folded.vae, *latent_statistics(folded, self.pictures, limit=1024))
        save_part(folded.vae, folder / "vae")

    @property
    def device(self) -> torch.device:
        """Where the autoencoder is trained."""
        return next(self.trained.parameters()).device


@torch.inference_mode()
def latent_statistics(autoencoder: Autoencoder, pictures: Pictures, limit: int) -> tuple[Tensor, Tensor]:
    """Mean (C,) and standard deviation of the raw latents over up to `limit` pictures.

    The deviation is (C,), with VQ (1,): from the channels' own means, over all of them.
    """
    device = next(autoencoder.parameters()).device
    pictures = pictures.square().spread(limit)
    count, total, squares = 0, *torch.zeros(2, autoencoder.latent_channels, dtype=torch.double)
    for batch in chunks(range(len(pictures)), 32):
        latents = autoencoder.raw_latents(pictures.batch(batch).to(device)).cpu().double()  # (b, C, h, w)
        count += latents.numel() // latents.shape[1]
        total = total + latents.sum((0, 2, 3))
        squares = squares + latents.square().sum((0, 2, 3))
    mean = total / count
    variance = squares / count - mean**2
    if autoencoder.regularizer == "vq":
        variance = variance.mean(0, keepdim=True)
    return mean.float().to(device), variance.sqrt().float().to(device)


def pixels_folder(pictures: Pictures, folder: Path) -> Path:
    """The first stage of pixel space for these pictures, kept in `folder` under their digest."""
    target = folder / f"pixels-{pictures.digest[:16]}"
    if not (target / "vae" / "config.json").exists():  # which is written last
        pixels = Autoencoder(Pixels())
        mean, std = latent_statistics(pixels, pictures, limit=1024)
        weights = {"mean": mean.view(3, 1, 1), "std": std.clamp(min=1e-3).view(3, 1, 1)}
        pixels.vae.load_state_dict(weights)
        save_part(pixels.vae, target / "vae")
    return target


def starting_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder that training begins with: untrained, or that of init.model.

    Raises: ConfigError where that one cannot be trained as asked; ModelError.
    """
    model, source = config.autoencoder, config.init.model
    if source:
        autoencoder = load_autoencoder(Path(source)).train().requires_grad_()
        if autoencoder.regularizer is None:
            raise ConfigError(f"init.model = {source} draws in pixels, so there is no autoencoder to train")
        if autoencoder.regularizer != model.regularizer:
            raise ConfigError(
                f"the autoencoder in init.model = {source} is of the kind {autoencoder.regularizer}; set "
                f"autoencoder.regularizer={autoencoder.regularizer}, it is {model.regularizer}"
            )
        if model.preset:
            with torch.device("meta"):
                wanted = build_autoencoder(model.preset, model.regularizer)
            check_preset("autoencoder.preset", model.preset, wanted, autoencoder, source)
        if autoencoder.vae.quant_conv is None:
            raise ConfigError(
                f"the autoencoder in init.model = {source} has no quant_conv, into which the scale of the "
                "latents is folded; start from another one"
            )
    else:
        if model.decoder_only:
            raise ConfigError(
                "autoencoder.decoder_only is true, but there is no encoder to keep: set init.model to the "
                "folder that has it"
            )
        autoencoder = build_autoencoder(model.preset, model.regularizer)
    if model.decoder_only:
        for part in (autoencoder.vae.encoder, autoencoder.vae.quant_conv):
            part.requires_grad_(False)
    if config.training.gradient_checkpointing:
        autoencoder.vae._supports_gradient_checkpointing = True  # VQModel's parts do; it does not say so
        autoencoder.vae.enable_gradient_checkpointing()
    return autoencoder


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


def check_sharding(config: AutoencoderConfig) -> None:
    """Refuse to share an autoencoder out; ConfigError."""
    if config.training.sharding != "ddp":
        raise ConfigError(
            f"training.sharding is {config.training.sharding}, and only denoisers are shared out; an "
            "autoencoder is small: set it to ddp"
        )


def check_moves(factor: int, config: AutoencoderConfig, discriminator: PatchDiscriminator | None) -> None:
    """Refuse pictures that cannot be halved where they must be, or are too small to judge; ConfigError."""
    data = config.data
    shapes = bucket_shapes(data.resolution, data.buckets, data.bucket_multiple)
    sides = {data.crop} if data.crop else {side for shape in shapes for side in shape}
    smallest = min(sides)
    if config.autoencoder.equivariance:
        if any(side % (2 * factor) for side in sides):
            raise ConfigError(
                f"pictures of {', '.join(map(str, sorted(sides)))} px cannot be halved for "
                f"autoencoder.equivariance; their sides must be multiples of {2 * factor}"
            )
        smallest //= 2
    if discriminator is not None and smallest < discriminator.smallest_pixels:
        raise ConfigError(
            f"the discriminator sees {smallest} px (halved where autoencoder.equivariance is on) and needs "
            f"{discriminator.smallest_pixels}; raise data.crop or lower autoencoder.discriminator_layers"
        )


def main(args: Namespace) -> int:
    """Run the command; `args` has config, set, run and dry_run."""
    config: Any = load_config(AutoencoderConfig, args.config, args.set)
    accelerator = connect(config.training)
    with nothing_kept(args.dry_run):
        stage = AutoencoderStage(config)
        autoencoder = stage.trained.autoencoder
        size = sum(p.numel() for p in autoencoder.parameters()) / 1e6
        print(
            f"autoencoder of {size:.1f} M parameters, f = {autoencoder.downsampling_factor}, on "
            f"{len(stage.pictures)} pictures ({stage.skipped} files skipped)"
        )
        if stage.config.init.model:
            print(f"begun from {stage.config.init.model}, which decides the architecture")
        start(stage, stage.config, accelerator, args.run, args.dry_run)
    return 0
