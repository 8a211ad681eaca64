"""`train diffusion`: stage 2, noise to latents by words (Rombach et al. 2022, sections 3.2 and 3.3)."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from models.class_encoder import CLASS_DIM, ConditionEncoder
from models.defaults import GenerationDefaults, read_defaults
from models.errors import ConfigError
from models.folder import load_autoencoder, save_model
from models.latent_diffusion import LatentDiffusionModel
from models.pixels import PIXELS
from models.text_encoder import TextStates
from models.upsampling import upsample_on_small_grids
from pipelines.decoding import to_images
from pipelines.preview import fit_preview
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.text_to_image import text_to_image
from training.attention import CpuAttention
from training.autoencoder import check_sizes, pixels_folder
from training.cache import Latents, LiveLatents, LiveTexts, Texts, cache_latents, cache_texts
from training.conditions import JointObjective, build_text_encoder, choose_words, read_words
from training.config import DiffusionConfig, load_config
from training.data.order import Order
from training.data.pictures import MAX_HELD_OUT, Pictures, load_pictures
from training.distributed import connect
from training.finetune import build_denoiser, noise_process, resolve_diffusion
from training.grid import save_grid
from training.image_conditions import Blurred, ShownPictures, image_condition_of
from training.loop import start
from training.lora import Adapters
from training.objectives import build_objective
from training.preserve import KeptThings, Preserving
from training.runs import nothing_kept, runs_folder
from training.seeds import normal, uniform

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
PREVIEW_PICTURES = 64


class DiffusionStage:
    """Stage 2 for the training loop; without `fill_cache` it looks nothing up, also where it should."""

    trained: nn.Module
    objective: nn.Module
    turning_steps: tuple[int, ...] = ()

    def __init__(self, config: DiffusionConfig, fill_cache: bool = True) -> None:
        self.config = config = resolve_diffusion(config)
        model = config.model
        if not model.autoencoder:
            raise ConfigError(
                "model.autoencoder is not set; name the model folder that holds the frozen one, or "
                f'"{PIXELS}" to learn without one'
            )
        self.first_stage = Path(model.autoencoder)
        if model.autoencoder == PIXELS:
            self.first_stage = pixels_folder(load_pictures(config.data)[0], runs_folder() / "cache")
        self.autoencoder = load_autoencoder(self.first_stage)
        check_sizes(self.autoencoder.downsampling_factor, config.data)
        self.image_condition = image_condition_of(config)
        torch.manual_seed(config.training.seed)
        text_encoder = build_text_encoder(model) if model.condition == "text" else None
        torch.manual_seed(config.training.seed)
        channels = self.autoencoder.latent_channels
        text_dim = CLASS_DIM if text_encoder is None else text_encoder.dim
        shown_channels = 0 if self.image_condition is None else 1 + channels
        unet = build_denoiser(config, channels, text_dim, shown_channels)
        if config.training.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        upsample_on_small_grids(unet)
        if config.training.precision == "bf16":
            unet.set_attn_processor(CpuAttention())
        self.loss = build_objective(unet, model, noise_process(config))

        self.pictures, held_out, self.skipped = load_pictures(config.data)
        self.order = Order(self.pictures.buckets, config.training.batch_size, config.training.seed)
        held_out = held_out.spread(MAX_HELD_OUT)
        self.words, self.encoder = read_words(self.pictures, text_encoder, config)
        asked = self.pictures.square().spread(config.training.sample_pictures)
        self.prompts = [self.words.text(self.words.of(asked, i)[0]) for i in range(len(asked))]
        some = self.pictures.square().spread(PREVIEW_PICTURES)
        self.preview = fit_preview(self.autoencoder, some.batch(range(len(some))))
        unmirrored = torch.zeros(len(held_out), dtype=torch.bool)
        live = LiveLatents(self.autoencoder, held_out)
        self.validation_latents, which = live.read(range(len(held_out)), unmirrored)  # (N, C, h, w)
        self.validation_prompts = [self.words.text(self.words.of(held_out, i)[0]) for i in which]

        caching = config.data.cache and fill_cache
        self.latents = self.latents_of(self.pictures, caching)
        self.shown = None
        if self.image_condition is not None:
            views = None
            if self.image_condition.kind == "upscale":
                views = self.latents_of(Blurred(self.pictures, self.image_condition.factor), caching)
            seed = config.training.seed
            self.shown = ShownPictures(self.image_condition, self.autoencoder, self.pictures, seed, views)
            self.originals = asked.batch(range(len(asked)))  # (N, 3, H, W)
            pixels = held_out.batch(which)
            self.validation_shown = self.shown.encode(pixels, 0, range(len(pixels)))  # (N, 1 + C, h, w)
        self.texts: Texts | None = None
        self.adapters = Adapters(unet, self.encoder, config) if config.lora.rank else None
        if any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.trained = nn.ModuleDict({"unet": unet, "encoder": self.encoder})
            self.objective = JointObjective(self.loss, self.encoder)
        else:
            assert text_encoder is not None
            self.trained, self.objective, index = unet, self.loss, self.pictures.index
            self.texts = LiveTexts(text_encoder, index)
            if caching:
                self.texts = cache_texts(
                    text_encoder, Path(model.text_encoder), index, runs_folder() / "cache"
                )
        self.kept: KeptThings | None = None
        if self.adapters is not None:
            self.trained = self.adapters.trained
            if config.lora.preserve:
                self.kept = KeptThings(self.encoder, self.prompts, config.lora.preserve, config.training.seed)
                self.objective = Preserving(self.loss, self.adapters)

    def latents_of(self, pictures: Pictures, caching: bool) -> Latents:
        """The latents of training pictures, computed once where `caching`."""
        if not caching:
            return LiveLatents(self.autoencoder, pictures)
        vae, flips = self.first_stage / "vae", self.config.data.flip > 0
        return cache_latents(self.autoencoder, vae, pictures, flips, runs_folder() / "cache")

    @property
    def cache_bytes(self) -> int:
        """What the cache takes on the disk, its texts by estimate; 0 where there is to be none."""
        if not self.config.data.cache:
            return 0
        pictures, variants = self.pictures, 2 if self.config.data.flip else 1
        if self.image_condition is not None and self.image_condition.kind == "upscale":
            variants *= 2
        factor = self.autoencoder.downsampling_factor
        sizes = [(width // factor) * (height // factor) for width, height in pictures.shapes]
        latents = sum(sizes[bucket] for bucket in pictures.buckets) * self.autoencoder.latent_channels
        texts = 0.0
        if self.texts is not None:
            lengths = self.encoder.encode(self.validation_prompts).mask.sum(1).float()
            texts = self.words.count * (1 + float(lengths.mean()))
        return int(2 * (variants * latents + texts * self.encoder.dim))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.trained.parameters())}]

    def batch(self, step: int, positions: range) -> tuple[Any, ...]:
        """Latents and noise (B, C, h, w), timesteps (B,), text states or tokens, and the image condition.

        With `lora.preserve` also which rows are about other words, (B,) bool.
        """
        options = self.config.training
        order = self.order.batch(step)
        flipped = uniform(options.seed, step, positions, "flip") < self.config.data.flip
        latents, which = self.latents.read([order[position] for position in positions], flipped)
        drops = uniform(options.seed, step, positions, "caption dropout")
        choices = uniform(options.seed, step, positions, "caption")
        dropout = self.config.model.caption_dropout
        numbers = choose_words(self.words, self.pictures, which, drops, choices, dropout)
        noise = normal(latents.shape[1:], options.seed, step, positions, "noise")
        if self.config.model.offset_noise:
            # One number a channel: white noise has almost no mean, so brightness is seen through all of it
            # and never learned (Guttenberg 2023, "Diffusion with offset noise").
            shift = normal((latents.shape[1], 1, 1), options.seed, step, positions, "offset noise")
            noise += self.config.model.offset_noise * shift
        timestep = self.loss.timesteps(uniform(options.seed, step, positions, "timestep"))
        words: TextStates | tuple[Tensor, ...]
        if self.texts is not None:
            words = self.texts.states(numbers).to(self.device)
        else:
            tokens = self.encoder.tokenize([self.words.text(number) for number in numbers])
            words = tuple(part.to(self.device) for part in tokens)
        shown = None
        if self.shown is not None:
            shown = self.shown.batch(which, flipped, step, positions).to(self.device)
        if self.kept is None:
            return latents.to(self.device), noise.to(self.device), timestep.to(self.device), words, shown
        if self.kept.latents is None:
            assert self.adapters is not None
            with self.adapters.switched_off():
                guidance, denoiser = self.defaults().guidance_scale, self.loss.denoiser(self.loss.unet)
                self.kept.draw(denoiser, (latents.shape[1], *latents.shape[2:]), guidance)
        assert isinstance(words, TextStates)
        latents, words, kept = self.kept.put_among(latents, words, timestep, step, positions)
        noise, timestep = noise.to(self.device), timestep.to(self.device)
        return latents.to(self.device), noise, timestep, words.to(self.device), None, kept.to(self.device)

    def after_step(self, step: int) -> None:
        """Nothing: the optimiser does it all."""

    def sample(self, averaged: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Draw a fixed list of training captions into one grid; the validation loss at each of several t.

        With an image condition each picture stands between what was shown of it and the original.
        """
        self.autoencoder.to(self.device)
        self.encoder.to(self.device)
        defaults = self.defaults()
        model = self.model(averaged, "sample", folder)
        images: list[Image.Image] = []
        for seed, prompt in enumerate(self.prompts):
            request = GenerationRequest.from_options({"prompt": prompt, "seed": seed}, defaults)
            condition, original = None, []
            if self.shown is not None:
                pixels = self.originals[seed : seed + 1]
                images += to_images(self.shown.views(pixels, 0, [seed])[0])
                condition, original = self.shown.encode(pixels, 0, [seed]), to_images(pixels)
            for event in text_to_image(model, request, condition=condition):
                if isinstance(event, GenerationResult):
                    images += event.images
            images += original
        save_grid(
            images, folder / f"step-{step:07d}.png", columns=min(8, len(images)) if self.shown is None else 6
        )
        (folder / "prompts.txt").write_text("\n".join(self.prompts) + "\n")
        return {f"validation_loss_{name}": loss for name, loss in self.validation_losses(averaged)}

    @torch.inference_mode()
    def validation_losses(self, averaged: nn.Module) -> Iterator[tuple[str, float]]:
        """("t" and a time, unweighted loss) on held-out pictures with noise that is always the same."""
        unet, encoder = self.parts(averaged)
        objective = build_objective(unet, self.config.model, self.loss.betas).to(self.device)
        latents = self.validation_latents.to(self.device)
        states = encoder.encode(self.validation_prompts).to(self.device)
        shown = None if self.shown is None else self.validation_shown.to(self.device)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        for timestep in VALIDATION_TIMESTEPS:
            same = torch.full((len(latents),), timestep, device=self.device)
            yield f"t{timestep / 1000}", float(objective.errors(latents, noise, same, states, shown).mean())

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
            image_condition=model.image_condition,
        )
        if self.adapters is not None:
            self.adapters.save(folder, averaged, self.prompts)

    def model(self, averaged: nn.Module, name: str, folder: Path) -> LatentDiffusionModel:
        """The parts as they stand in memory."""
        unet, encoder = self.parts(averaged)
        return LatentDiffusionModel(
            name=name,
            path=folder,
            model_id="unsaved",
            autoencoder=self.autoencoder,
            denoiser=self.loss.denoiser(unet),
            text_encoder=encoder,
            defaults=self.defaults(),
            preview=self.preview,
            image_condition=self.image_condition,
        )

    def parts(self, averaged: nn.Module) -> tuple[nn.Module, ConditionEncoder]:
        """The denoiser and the encoder of prompts, that of `averaged` where it is trained too."""
        if self.adapters is not None:
            return self.adapters.merged(averaged)
        if isinstance(averaged, nn.ModuleDict):
            return averaged["unet"], cast(ConditionEncoder, averaged["encoder"])
        return averaged, self.encoder

    def defaults(self) -> GenerationDefaults:
        """How the trained model draws where a request does not say."""
        side = self.config.data.resolution
        if self.config.init.model:
            return replace(read_defaults(self.config.init.model), width=side, height=side, instant=None)
        guidance = 1.0 if self.config.model.condition == "none" else 3.0
        return GenerationDefaults(width=side, height=side, steps=20, guidance_scale=guidance)

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
        model, begin = stage.config.model, stage.config.init.model
        size = sum(p.numel() for p in stage.trained.parameters()) / 1e6
        shape = "x".join(map(str, stage.validation_latents.shape[1:]))
        words = "captions" if model.condition == "text" else "classes"
        print(
            f"denoiser of {size:.1f} M parameters on {shape} latents of {len(stage.pictures)} pictures with "
            f"{stage.words.count - 1} {words} ({stage.skipped} files skipped)"
        )
        if begin:
            print(
                f"begun from {begin}, which decides architecture, prediction ({model.prediction}) and noise"
            )
        start(stage, stage.config, accelerator, args.run, args.dry_run)
    return 0
