"""The experiment of latents against pixels: its arms, and the trainings that each consists of.

An arm is a first stage with a denoiser on its latents. All denoisers have as many parameters (to 5%) and the
same two coarsest levels, which attend; that of pixels has finer ones above, which do not.
"""

import hashlib
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.autoencoder import Autoencoder, Regularizer, build_autoencoder
from models.errors import RequestError
from models.folder import model_path
from models.pixels import PIXELS, Pixels
from pipelines.request import GenerationRequest
from training.config import (
    AutoencoderConfig,
    AutoencoderModel,
    Checkpoints,
    Data,
    DiffusionConfig,
    DiffusionModel,
    Ema,
    Optimizer,
    Training,
)
from training.runs import runs_folder

LEARNING_RATES = (1e-3, 5e-4, 2e-3, 2.5e-4, 4e-3, 1.25e-4, 8e-3)  # tried in this order
COUNT = 400  # pictures drawn at each point
SAMPLER, STEPS = "DPM++ 2M", 15


@dataclass(frozen=True, slots=True)
class Size:
    """Names of presets: the denoiser of latents, that of pixels, and the autoencoder of each f."""

    latents: str
    pixels: str
    autoencoders: dict[int, str]


SIZES = {
    "tiny": Size("tiny", "tiny-pixels", {4: "tiny"}),
    "small": Size("small", "small-pixels", {4: "small-f4", 8: "small-f8", 16: "small-f16"}),
}


@dataclass(frozen=True, slots=True)
class Arm:
    """A first stage: `f` pixels a side to one latent, and how they are regularised (None: pixels)."""

    name: str
    f: int
    regularizer: Regularizer | None


def arm_of(name: str, size: str) -> Arm:
    """The arm of a name; RequestError where there is none."""
    arms = [Arm(PIXELS, 1, None)]
    for f in SIZES[size].autoencoders:
        arms += [Arm(f"kl-f{f}", f, "kl"), Arm(f"vq-f{f}", f, "vq")]
    for arm in arms:
        if arm.name == name:
            return arm
    known = ", ".join(arm.name for arm in arms)
    raise RequestError(f"--first-stages has {name!r}; there is {known} in the size {size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is compared, and on what; budgets and trials are seconds of a training at its measured speed."""

    arms: tuple[Arm, ...]
    data: str
    resolution: int
    size: str
    batch_size: int
    budgets: tuple[int, ...]
    stage1_seconds: int
    trial_seconds: int
    learning_rates: tuple[float, ...]
    count: int
    sampler: str
    steps: int
    seed: int
    text_encoder: str

    @classmethod
    def of(cls, args: Namespace) -> "Experiment":
        """The experiment of a command line; RequestError where it makes no sense."""
        samplers, steps = args.samplers or [SAMPLER], args.steps or [STEPS]
        if len(samplers) > 1 or len(steps) > 1:
            raise RequestError("every arm is drawn alike: give one of --samplers and one of --steps")
        names = list(dict.fromkeys([PIXELS, *args.first_stages]))
        if PIXELS not in args.first_stages or len(names) < 2:
            raise RequestError(f"--first-stages compares {PIXELS} with others; name {PIXELS} and one of them")
        if args.trials > len(LEARNING_RATES):
            raise RequestError(f"--trials is {args.trials}; at most {len(LEARNING_RATES)} rates are tried")
        if args.trial_seconds > min(args.budgets):
            raise RequestError(
                f"--trial-seconds is {args.trial_seconds}, more than the smallest of --budgets, "
                f"{min(args.budgets)}, which goes on from it"
            )
        return cls(
            arms=tuple(arm_of(name, args.size) for name in names),
            data=str(args.data),
            resolution=args.resolution,
            size=args.size,
            batch_size=args.batch_size,
            budgets=tuple(sorted(set(args.budgets))),
            stage1_seconds=args.stage1_seconds,
            trial_seconds=args.trial_seconds,
            learning_rates=LEARNING_RATES[: args.trials],
            count=args.count or COUNT,
            sampler=samplers[0],
            steps=steps[0],
            seed=args.seed,
            text_encoder=str(model_path(args.model)),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All of it but the arms, for the record."""
        return {name: value for name, value in asdict(self).items() if name != "arms"}

    @property
    def folder(self) -> Path:
        """Where its runs and speeds lie. Budgets, trials and what is drawn may change and find them again."""
        timed = (self.arms, Path(self.data).absolute(), self.resolution, self.size, self.batch_size)
        key = repr((*timed, self.sampler, self.steps, self.seed, self.text_encoder))
        return runs_folder() / f"frontier-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    @property
    def pictures(self) -> Data:
        """Which pictures, for both stages."""
        return Data(path=self.data, resolution=self.resolution)

    def untrained(self, arm: Arm) -> Autoencoder:
        """The first stage of an arm before its training."""
        if arm.regularizer is None:
            return Autoencoder(Pixels())
        return build_autoencoder(SIZES[self.size].autoencoders[arm.f], arm.regularizer)

    def autoencoder_config(self, arm: Arm, steps: int) -> AutoencoderConfig:
        """Stage 1 of an arm, by the starter's recipe."""
        assert arm.regularizer is not None
        return AutoencoderConfig(
            data=self.pictures,
            autoencoder=AutoencoderModel(
                preset=SIZES[self.size].autoencoders[arm.f],
                regularizer=arm.regularizer,
                learn_logvar=False,
                equivariance=0.2,
            ),
            optimizer=Optimizer(
                learning_rate=1e-3, weight_decay=0.0, warmup_steps=min(100, steps // 10), decay_share=0.4
            ),
            training=self._training(f"{arm.name}-stage1", steps),
            ema=Ema(max_decay=0.999),
            checkpoints=Checkpoints(keep=1),
        )

    def diffusion_config(
        self, arm: Arm, first_stage: Path | str, learning_rate: float, steps: int
    ) -> DiffusionConfig:
        """Stage 2 of an arm: a constant rate, so that a longer training begins as a shorter one does."""
        size = SIZES[self.size]
        return DiffusionConfig(
            data=self.pictures,
            model=DiffusionModel(
                preset=size.pixels if arm.regularizer is None else size.latents,
                autoencoder=str(first_stage),
                text_encoder=self.text_encoder,
            ),
            optimizer=Optimizer(learning_rate=learning_rate, warmup_steps=20, decay_share=0.0),
            training=self._training(arm.name, steps),
            checkpoints=Checkpoints(keep=1),
        )

    def _training(self, name: str, steps: int) -> Training:
        return Training(
            name=name,
            steps=steps,
            batch_size=self.batch_size,
            seed=self.seed,
            precision="no",
            sample_every_steps=0,
        )

    def request(self, prompt: str, seed: int) -> GenerationRequest:
        """What is drawn of every arm; unguided, since it is the distribution that is compared."""
        return GenerationRequest(
            prompt=prompt,
            width=self.resolution,
            height=self.resolution,
            steps=self.steps,
            guidance_scale=1.0,
            sampler=self.sampler,
            seed=seed,
        )
