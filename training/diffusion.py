"""`train diffusion`: stage 2, noise to latents by words (Rombach et al. 2022, sections 3.2 and 3.3)."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.defaults import GenerationDefaults
from models.denoiser import Denoiser
from models.errors import ConfigError
from models.folder import LatentDiffusionModel, load_autoencoder, load_unet_weights, save_model
from models.text_encoder import TextEncoder, TextStates
from models.unet import build_unet
from models.weights import find_weights
from pipelines.preview import fit_preview
from pipelines.request import GenerationRequest, GenerationResult
from pipelines.text_to_image import text_to_image
from training import losses
from training.attention import CpuAttention
from training.autoencoder import check_sizes
from training.cache import cache_latents, cache_text
from training.config import DiffusionConfig, load_config
from training.data.pictures import MAX_HELD_OUT, Pictures, batch_indices, load_pictures
from training.distributed import connect
from training.grid import save_grid
from training.loop import start
from training.run import runs_folder
from training.seeds import normal, uniform

# Where a validation loss is taken: t of the flow's path, on the same latents and noise every time.
VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID_PROMPTS = 16
PREVIEW_PICTURES = 64


class FlowObjective(nn.Module):
    """The rectified flow's loss with t ~ sigmoid(N(0, 1)) (Esser et al. 2024, equations 13 and 19)."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latents: Tensor, noise: Tensor, t: Tensor, states: TextStates
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over latents and noise (B, C, h, w) at times t (B,)."""
        return self.at(latents, noise, t, states).mean(), {}

    def at(self, latents: Tensor, noise: Tensor, t: Tensor, states: TextStates) -> Tensor:
        """The loss of each row, (B,)."""
        z_t = losses.interpolate(latents, noise, t)  # (B, C, h, w)
        velocity = self.unet(
            z_t,
            1000 * t,
            encoder_hidden_states=states.hidden,  # (B, T, D)
            encoder_attention_mask=states.mask,  # (B, T)
            class_labels=states.pooled,  # (B, D)
            return_dict=False,
        )[0]
        return losses.flow(velocity.float(), latents, noise)


class Captions:
    """Every distinct caption of a set of pictures by number; 0 is the empty one, which guidance needs."""

    def __init__(self, pictures: Pictures) -> None:
        numbers: dict[str, int] = {"": 0}
        self.of_picture = [
            [numbers.setdefault(caption, len(numbers)) for caption in entry.captions]
            for entry in pictures.entries
        ]
        self.distinct = list(numbers)

    def choose(self, indices: list[int], drops: Tensor, choices: Tensor, dropout: float) -> list[int]:
        """One caption of each picture, the empty one where a drop < `dropout` (Ho & Salimans 2022).

        `drops` and `choices` are numbers in [0, 1), (B,).
        """
        return [
            0 if drop < dropout else self.of_picture[i][int(choice * len(self.of_picture[i]))]
            for i, drop, choice in zip(indices, drops.tolist(), choices.tolist(), strict=True)
        ]


class DiffusionStage:
    """Stage 2 for the training loop."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        model = config.model
        for name in ("autoencoder", "text_encoder"):
            if not getattr(model, name):
                raise ConfigError(
                    f"model.{name} is not set; name the model folder that holds the frozen {name}"
                )
        self.autoencoder = load_autoencoder(Path(model.autoencoder))
        self.text_encoder = TextEncoder.from_folder(model.text_encoder)
        check_sizes(self.autoencoder.downsampling_factor, config.data.resolution)
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

        data = config.data
        self.pictures, held_out, self.skipped = load_pictures(Path(data.path), data.resolution, data.split)
        self.captions = Captions(self.pictures)
        held_out.entries = held_out.entries[:: -(-len(held_out) // MAX_HELD_OUT)]
        cache, vae = runs_folder() / "cache", find_weights(Path(model.autoencoder) / "vae")
        text = find_weights(Path(model.text_encoder) / "text_encoder")
        self.latents = cache_latents(self.autoencoder, vae, self.pictures, cache)  # (N, C, h, w)
        self.text = cache_text(self.text_encoder, text, self.captions.distinct, cache)
        validation_captions = [entry.captions[0] for entry in held_out.entries]
        self.validation_latents = cache_latents(self.autoencoder, vae, held_out, cache)
        self.validation_text = cache_text(self.text_encoder, text, validation_captions, cache)
        self.objective: nn.Module = FlowObjective(unet)
        shown = range(0, len(self.pictures), -(-len(self.pictures) // GRID_PROMPTS))
        self.prompts = [self.pictures.entries[i].captions[0] for i in shown]
        spread = range(0, len(self.pictures), -(-len(self.pictures) // PREVIEW_PICTURES))
        self.preview = fit_preview(self.autoencoder, self.pictures.batch(list(spread)))

    @property
    def cache_bytes(self) -> int:
        """What the latents and text states of all pictures take on the disk."""
        return self.latents.nbytes + self.text.tokens.nbytes + self.text.pooled.nbytes

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.trained.parameters())}]

    def batch(self, step: int, positions: range) -> tuple[Tensor, Tensor, Tensor, TextStates]:
        """Latents and noise (B, C, h, w), t ~ sigmoid(N(0, 1)) (B,) and text states."""
        options = self.config.training
        order = batch_indices(len(self.pictures), options.batch_size, options.seed, step)
        indices = [order[position] for position in positions]
        drops = uniform(options.seed, step, positions, "caption dropout")
        choices = uniform(options.seed, step, positions, "caption")
        captions = self.captions.choose(indices, drops, choices, self.config.model.caption_dropout)
        latents = self.latents[indices].float()
        noise = normal(latents.shape[1:], options.seed, step, positions, "noise")
        t = normal((), options.seed, step, positions, "t").sigmoid()
        states = self.text.states(captions).to(self.device)
        return latents.to(self.device), noise.to(self.device), t.to(self.device), states

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
        return {f"validation_loss_t{t}": loss for t, loss in self.validation_losses(averaged)}

    @torch.inference_mode()
    def validation_losses(self, unet: nn.Module) -> Iterator[tuple[float, float]]:
        """(t, loss) on held-out pictures with noise that is the same at every call."""
        objective = FlowObjective(unet)
        latents = self.validation_latents.float().to(self.device)
        states = self.validation_text.states(range(len(latents))).to(self.device)
        for t in VALIDATION_TIMES:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(latents.shape, generator=generator).to(self.device)
            times = torch.full((len(latents),), t, device=self.device)
            yield t, float(objective.at(latents, noise, times, states).mean())

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
        denoiser = Denoiser(unet, "flow")
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
    stage = DiffusionStage(config)
    size = sum(p.numel() for p in stage.trained.parameters()) / 1e6
    shape = "x".join(map(str, stage.latents.shape[1:]))
    print(
        f"denoiser of {size:.1f} M parameters on {shape} latents of {len(stage.pictures)} pictures with "
        f"{len(stage.captions.distinct)} captions ({len(stage.skipped)} files skipped)"
    )
    start(stage, config, accelerator, args.run, args.dry_run)
    return 0
