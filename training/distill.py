"""`train distill`: a student that draws in a few steps, without guidance, what its teacher draws in many."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.defaults import (
    INSTANT,
    METRICS,
    GenerationDefaults,
    ImageCondition,
    read_defaults,
    read_preview,
    write_defaults,
)
from models.errors import ConfigError
from models.folder import load_model, save_config, save_model
from models.folder_check import check_model_folder
from models.weights import read_json
from models.writing import write_bytes
from training.attention import CpuAttention
from training.config import DiffusionConfig, DiffusionModel, DistillConfig, Init, load_config
from training.diffusion import DiffusionStage
from training.distill_objective import Distillation, student_windows
from training.distributed import connect
from training.finetune import folder_of, refuse_two_encoders
from training.loop import start
from training.lora import save_lora
from training.runs import nothing_kept

VALIDATION_PICTURES = 16  # fewer than of a denoiser: the teacher walks through every window with each


class DistillStage(DiffusionStage):
    """Stage 2 begun as the teacher, who is followed, or his student; see training/distill_objective.py."""

    def __init__(self, config: DistillConfig, fill_cache: bool = True) -> None:
        self.own_config = config = resolve_distill(config)
        self.options = config.distill
        super().__init__(as_diffusion(config), fill_cache)
        folder = Path(config.init.model)
        model = load_model(folder)
        self.teacher, self.teacher_defaults = model.denoiser, model.defaults
        if config.training.precision == "bf16":
            teacher: Any = self.teacher.unet
            teacher.set_attn_processor(CpuAttention())
        if config.distill.begin == "student":
            assert model.instant is not None
            student = model.instant.denoiser.unet
            if self.adapters is None:
                self.trained.load_state_dict(student.state_dict())
            else:
                self.adapters.parts["unet"].approach(student)
        self.preview = read_preview(folder, self.autoencoder.latent_channels) or self.preview
        self.beside = {
            name: (folder / name).read_bytes()
            for name in ("README.md", "examples.json", "chinese.json", METRICS)
            if (folder / name).is_file()
        }
        if METRICS in self.beside:  # what was measured of an earlier student is not this one's
            metrics = {part: of for part, of in read_json(folder / METRICS).items() if part != "instant"}
            self.beside[METRICS] = json.dumps(metrics, indent=2).encode()
        distill = config.distill
        self.windows = student_windows(self.teacher, distill.sampler, distill.steps, distill.substeps)
        self.objective = self.distillation(self.loss.unet)
        self.nothing = self.encoder.encode([""])

    def distillation(self, unet: nn.Module) -> Distillation:
        """The loss of a student."""
        guidance = self.options.guidance_scale
        assert isinstance(guidance, float)
        return Distillation(self.loss.denoiser(unet), self.teacher, self.windows, guidance)

    def batch(self, step: int, positions: range) -> tuple[Any, ...]:
        """What `Distillation` takes; the windows take turns, so that each has its share of every batch."""
        latents, noise, _, words, shown = super().batch(step, positions)
        window = (torch.tensor(positions) + step) % self.options.steps  # (B,)
        return latents, noise, window, words, self.nothing.to(self.device), shown

    @torch.inference_mode()
    def validation_losses(self, averaged: nn.Module) -> Iterator[tuple[str, float]]:
        """("step" and its number, loss) on held-out pictures with noise that is always the same."""
        loss, some = self.distillation(self.parts(averaged)[0]), slice(VALIDATION_PICTURES)
        latents = self.validation_latents[some].to(self.device)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        states = self.encoder.encode(self.validation_prompts[some]).to(self.device)
        nothing = self.nothing.to(self.device)
        shown = None if self.shown is None else self.validation_shown[some].to(self.device)
        for window in range(self.options.steps):
            errors = loss.errors(window, latents, noise, states, nothing, shown)  # (B,)
            yield f"step{window + 1}", float(errors.mean())

    def defaults(self) -> GenerationDefaults:
        """How the student draws: in as many steps as it learned, without guidance."""
        side = self.config.data.resolution
        return GenerationDefaults(
            width=side,
            height=side,
            steps=self.options.steps,
            guidance_scale=1.0,
            sampler=self.options.sampler,
        )

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the teacher's model folder with the student in it, as adapters where it was trained so."""
        if self.adapters is not None:
            save_config(self.teacher.unet, folder / INSTANT)
            write_defaults(folder / INSTANT, self.defaults())
            adapters = {"unet": (self.adapters.parts["unet"], averaged.get_submodule("unet"))}
            save_lora(folder / INSTANT, adapters, {}, torch.float16)
        save_model(
            folder,
            autoencoder=self.autoencoder,
            denoiser=self.teacher,
            text_encoder=self.encoder,
            defaults=self.teacher_defaults,
            preview=self.preview,
            image_condition=self.image_condition,
            instant=self.model(averaged, folder.name, folder) if self.adapters is None else None,
        )
        for name, content in self.beside.items():
            write_bytes(folder / name, content)


def resolve_distill(config: DistillConfig) -> DistillConfig:
    """The configuration with everything filled in that the teacher decides.

    Raises: ConfigError for a teacher that cannot be followed, ModelError for one that cannot be read.
    """
    if not config.init.model:
        raise ConfigError("init.model is not set; name the model folder of the teacher")
    if config.training.sharding != "ddp":
        raise ConfigError(
            f'training.sharding is "{config.training.sharding}", which a student cannot be trained with; '
            "set training.sharding=ddp"
        )
    begin = folder_of(config.init.model)
    check_model_folder(begin)
    refuse_two_encoders(begin)
    if not (Path(begin) / "text_encoder").is_dir():
        raise ConfigError(f"init.model {begin} draws classes; only models that read words can be distilled")
    options = config.distill
    if options.begin == "student" and not (Path(begin) / INSTANT).is_dir():
        raise ConfigError(
            f'distill.begin is "student", but {begin} has none; set distill.begin=teacher, or name a folder '
            f"with {INSTANT}/"
        )
    if config.lora.text_encoder or config.lora.preserve:
        raise ConfigError(
            "lora.text_encoder and lora.preserve are for adapters of a model; a student reads as its teacher "
            "does and follows it everywhere; leave them out"
        )
    if options.guidance_scale == "teacher":
        options = replace(options, guidance_scale=float(read_defaults(begin).guidance_scale))
    return replace(config, init=Init(begin), distill=options)


def as_diffusion(config: DistillConfig) -> DiffusionConfig:
    """The training of stage 2 that begins as the teacher and shows it the same things."""
    condition = ImageCondition.from_index(read_json(Path(config.init.model) / "model_index.json"))
    model = DiffusionModel(caption_dropout=0.0)
    if condition is not None:
        model = replace(model, image_condition=condition.kind, upscale_factor=max(2, condition.factor))
    return DiffusionConfig(
        data=config.data,
        model=model,
        optimizer=config.optimizer,
        training=config.training,
        ema=config.ema,
        checkpoints=config.checkpoints,
        init=config.init,
        lora=config.lora,
    )


def main(args: Namespace) -> int:
    """Run the command; `args` has config, set, run and dry_run."""
    config = load_config(DistillConfig, args.config, args.set)
    accelerator = connect(config.training)
    with nothing_kept(args.dry_run):
        stage = DistillStage(config, fill_cache=not args.dry_run)
        print(
            f"student of {stage.options.steps} steps on {len(stage.pictures)} pictures "
            f"({stage.skipped} files skipped), begun from {stage.own_config.init.model}, "
            f"guidance {stage.options.guidance_scale:g}"
        )
        start(stage, stage.own_config, accelerator, args.run, args.dry_run)
    return 0
