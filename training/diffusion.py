"""`train diffusion`: stage 2, noise to latents by words (Rombach et al. 2022, sections 3.2 and 3.3)."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.defaults import GenerationDefaults
from models.errors import ConfigError
from models.folder import LatentDiffusionModel, load_autoencoder, load_unet_weights, save_model
from models.text_encoder import TextEncoder, TextStates
from models.unet import build_unet
from pipelines.preview import fit_preview
from pipelines.request import GenerationRequest, GenerationResult
from pipelines.text_to_image import text_to_image
from training.attention import CpuAttention
from training.autoencoder import check_sizes
from training.cache import Latents, LiveLatents, LiveTexts, Texts, cache_latents, cache_texts
from training.config import DiffusionConfig, load_config
from training.data.order import Order
from training.data.pictures import MAX_HELD_OUT, Pictures, load_pictures
from training.distributed import connect
from training.grid import save_grid
from training.loop import start
from training.objectives import build_objective
from training.run import nothing_kept, runs_folder
from training.seeds import normal, uniform

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
GRID_PROMPTS = 16
PREVIEW_PICTURES = 64


def choose_captions(
    pictures: Pictures, indices: list[int], drops: Tensor, choices: Tensor, dropout: float
) -> list[int]:
    """The number of one caption of each picture, 0 where a drop < `dropout` (Ho & Salimans 2022).

    `drops` and `choices` are numbers in [0, 1), (B,).
    """
    chosen = []
    for i, drop, choice in zip(indices, drops.tolist(), choices.tolist(), strict=True):
        numbers = pictures.caption_numbers(i)
        chosen.append(0 if drop < dropout else numbers[int(choice * len(numbers))])
    return chosen


class DiffusionStage:
    """Stage 2 for the training loop; without `fill_cache` it looks nothing up, also where it should."""

    def __init__(self, config: DiffusionConfig, fill_cache: bool = True) -> None:
        self.config = config
        model = config.model
        for name in ("autoencoder", "text_encoder"):
            if not getattr(model, name):
                raise ConfigError(
                    f"model.{name} is not set; name the model folder that holds the frozen {name}"
                )
        self.autoencoder = load_autoencoder(Path(model.autoencoder))
        self.text_encoder = TextEncoder.from_folder(model.text_encoder)
        check_sizes(self.autoencoder.downsampling_factor, config.data)
        torch.manual_seed(config.training.seed)
        unet = build_unet(
            model.preset, self.autoencoder.latent_channels, self.text_encoder.dim, model.dropout
        )
        if config.init.model:
            load_unet_weights(unet, Path(config.init.model))
        if config.training.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        if config.training.precision == "bf16":
            unet.set_attn_processor(CpuAttention())
        self.trained: nn.Module = unet
        self.objective = build_objective(unet, model)

        self.pictures, held_out, self.skipped = load_pictures(config.data)
        self.order = Order(self.pictures.buckets, config.training.batch_size, config.training.seed)
        held_out = held_out.spread(MAX_HELD_OUT)
        index = self.pictures.index
        self.latents: Latents = LiveLatents(self.autoencoder, self.pictures)
        self.texts: Texts = LiveTexts(self.text_encoder, index)
        unmirrored = torch.zeros(len(held_out), dtype=torch.bool)
        latents, shown = LiveLatents(self.autoencoder, held_out).read(range(len(held_out)), unmirrored)
        states = self.texts.states([held_out.caption_numbers(i)[0] for i in shown])
        self.validation = latents, states  # (N, C, h, w) and those of their first captions
        asked = self.pictures.spread(GRID_PROMPTS)
        self.prompts = [asked.entry(i).captions[0] for i in range(len(asked))]
        some = self.pictures.square().spread(PREVIEW_PICTURES)
        self.preview = fit_preview(self.autoencoder, some.batch(range(len(some))))
        if config.data.cache and fill_cache:
            cache, vae = runs_folder() / "cache", Path(model.autoencoder) / "vae"
            flips = config.data.flip > 0
            self.latents = cache_latents(self.autoencoder, vae, self.pictures, flips, cache)
            self.texts = cache_texts(self.text_encoder, Path(model.text_encoder), index, cache)

    @property
    def cache_bytes(self) -> int:
        """What the cache takes on the disk, its texts by estimate; 0 where there is to be none."""
        if not self.config.data.cache:
            return 0
        pictures, variants = self.pictures, 2 if self.config.data.flip else 1
        factor = self.autoencoder.downsampling_factor
        sizes = [(width // factor) * (height // factor) for width, height in pictures.shapes]
        latents = sum(sizes[bucket] for bucket in pictures.buckets) * self.autoencoder.latent_channels
        texts = pictures.index.caption_count * (1 + float(self.validation[1].mask.sum(1).float().mean()))
        return int(2 * (variants * latents + texts * self.text_encoder.dim))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.trained.parameters())}]

    def batch(self, step: int, positions: range) -> tuple[Tensor, Tensor, Tensor, TextStates]:
        """Latents and noise (B, C, h, w), timesteps (B,) and text states."""
        options = self.config.training
        order = self.order.batch(step)
        flipped = uniform(options.seed, step, positions, "flip") < self.config.data.flip
        latents, shown = self.latents.read([order[position] for position in positions], flipped)
        drops = uniform(options.seed, step, positions, "caption dropout")
        choices = uniform(options.seed, step, positions, "caption")
        captions = choose_captions(self.pictures, shown, drops, choices, self.config.model.caption_dropout)
        noise = normal(latents.shape[1:], options.seed, step, positions, "noise")
        if self.config.model.offset_noise:
            # One number a channel: white noise has almost no mean, so brightness is seen through all of it
            # and never learned (Guttenberg 2023, "Diffusion with offset noise").
            shift = normal((latents.shape[1], 1, 1), options.seed, step, positions, "offset noise")
            noise += self.config.model.offset_noise * shift
        timestep = self.objective.timesteps(uniform(options.seed, step, positions, "timestep"))
        states = self.texts.states(captions).to(self.device)
        return latents.to(self.device), noise.to(self.device), timestep.to(self.device), states

    def after_step(self, step: int) -> None:
        """Nothing: the optimiser does it all."""

    def sample(self, averaged: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Draw a fixed list of training captions into one grid; the validation loss at each of several t."""
        self.autoencoder.to(self.device)
        self.text_encoder.to(self.device)
        defaults = self.defaults()
        model = self.model(averaged, "sample", folder)
        images = []
        for seed, prompt in enumerate(self.prompts):
            request = GenerationRequest.from_options({"prompt": prompt, "seed": seed}, defaults)
            for event in text_to_image(model, request):
                if isinstance(event, GenerationResult):
                    images += event.images
        save_grid(images, folder / f"step-{step:07d}.png", columns=8)
        (folder / "prompts.txt").write_text("\n".join(self.prompts) + "\n")
        losses = self.validation_losses(averaged)
        return {f"validation_loss_t{timestep / 1000}": loss for timestep, loss in losses}

    @torch.inference_mode()
    def validation_losses(self, unet: nn.Module) -> Iterator[tuple[int, float]]:
        """(timestep, unweighted loss) on held-out pictures with noise that is the same at every call."""
        objective = build_objective(unet, self.config.model).to(self.device)
        latents, states = self.validation[0].to(self.device), self.validation[1].to(self.device)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        for timestep in VALIDATION_TIMESTEPS:
            same = torch.full((len(latents),), timestep, device=self.device)
            yield timestep, float(objective.errors(latents, noise, same, states).mean())

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the whole model folder with the averaged weights."""
        model = self.model(averaged, folder.name, folder)
        save_model(
            folder,
            autoencoder=model.autoencoder,
            denoiser=model.denoiser,
            text_encoder=model.text_encoder,
            defaults=model.defaults,
            preview=model.preview,
        )

    def model(self, unet: nn.Module, name: str, folder: Path) -> LatentDiffusionModel:
        """The parts as they stand in memory."""
        denoiser = self.objective.denoiser(unet)
        defaults, preview = self.defaults(), self.preview
        return LatentDiffusionModel(
            name, folder, "unsaved", self.autoencoder, denoiser, self.text_encoder, defaults, preview
        )

    def defaults(self) -> GenerationDefaults:
        """How the trained model draws where a request does not say."""
        side = self.config.data.resolution
        return GenerationDefaults(width=side, height=side, steps=20, guidance_scale=3.0)

    @property
    def device(self) -> torch.device:
        """Where the denoiser is trained."""
        return next(self.trained.parameters()).device


def main(args: Namespace) -> int:
    """Run the command; `args` has config, set, run and dry_run."""
    config: Any = load_config(DiffusionConfig, args.config, args.set)
    accelerator = connect(config.training)
    with nothing_kept(args.dry_run):
        stage = DiffusionStage(config, fill_cache=not args.dry_run)
        size = sum(p.numel() for p in stage.trained.parameters()) / 1e6
        shape = "x".join(map(str, stage.validation[0].shape[1:]))
        print(
            f"denoiser of {size:.1f} M parameters on {shape} latents of {len(stage.pictures)} pictures with "
            f"{stage.pictures.index.caption_count - 1} captions ({stage.skipped} files skipped)"
        )
        start(stage, config, accelerator, args.run, args.dry_run)
    return 0
