"""The one place where models that predict different things become the one kind that samplers know.

Samplers see variance-preserving latents x = sqrt(abar) z0 + sqrt(1 - abar) noise and ask for the noise
(epsilon). The noise level is sigma = sqrt((1 - abar) / abar), noise to signal, as in k-diffusion and EDM.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from models.defaults import is_distilled
from models.errors import ModelError
from models.text_encoder import TextStates

PredictionType = Literal["epsilon", "v_prediction", "flow"]
# unet(z, t, states) -> model output (B, C, h, w); t is (B,), the number the UNet was trained on.
# z has as many channels, or those of an image condition more.
Runner = Callable[[Tensor, Tensor, TextStates], Tensor]
NUM_TRAIN_TIMESTEPS = 1000
SDXL_PIXELS_A_LATENT = 8


def flow_alphas_cumprod(steps: int = NUM_TRAIN_TIMESTEPS) -> Tensor:
    """abar of the variance-preserving process that a rectified flow equals up to scale; (steps,) float64.

    Flow latents (1 - t) z0 + t noise have noise to signal t / (1 - t), here at t_k = (k + 1) / (steps + 1).
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64) / (steps + 1)
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


def added_conditions(network: nn.Module, z: Tensor, states: TextStates) -> dict[str, Tensor]:
    """What a UNet or a ControlNet of SDXL is told beside the words' states; others are told no more.

    That is the words' pooled state (B, D), and that nothing of the picture was enlarged or cut off, (B, 6).
    """
    config: Any = network.config
    if config.addition_embed_type != "text_time":
        return {}
    dtype = next(network.parameters()).dtype
    side = [SDXL_PIXELS_A_LATENT * number for number in z.shape[-2:]]
    sizes = torch.tensor([[*side, 0, 0, *side]], device=z.device, dtype=dtype)
    return {"text_embeds": states.pooled.to(dtype), "time_ids": sizes.expand(len(z), -1)}


class UNetRunner:
    """Runs a diffusers UNet2DConditionModel on text states, the runner on torch."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet

    def __call__(self, z: Tensor, t: Tensor, states: TextStates, residuals: Sequence[Tensor] = ()) -> Tensor:
        """Model output (B, C, h, w) in float32 or z's own precision, whatever the weights' precision.

        `residuals` are added to each output of the encoder, and the last of them to that of the middle block.
        """
        config: Any = self.unet.config
        dtype = next(self.unet.parameters()).dtype
        extra = tuple(residual.to(dtype) for residual in residuals)
        output: Tensor = self.unet(
            z.to(dtype),
            t,
            encoder_hidden_states=states.hidden.to(dtype),  # (B, T, D)
            encoder_attention_mask=states.mask,  # (B, T)
            class_labels=states.pooled.to(dtype) if config.class_embed_type == "simple_projection" else None,
            added_cond_kwargs=added_conditions(self.unet, z, states),
            down_block_additional_residuals=extra[:-1] or None,
            mid_block_additional_residual=extra[-1] if extra else None,
            return_dict=False,
        )[0]
        return output.to(z.dtype)


class Denoiser:
    """A UNet of any prediction type, asked for epsilon on variance-preserving latents.

    `alphas_cumprod` (1000,) float64 is the process the samplers walk; `runner` may be replaced by one on
    another engine. `distilled` marks a model that LCM may sample. Raises ModelError on a wrong process.
    """

    def __init__(
        self,
        unet: nn.Module,
        prediction_type: PredictionType,
        betas: Tensor | None = None,
        distilled: bool = False,
    ) -> None:
        if prediction_type not in get_args(PredictionType):
            raise ModelError(
                f'Unknown prediction_type "{prediction_type}"; known: {", ".join(get_args(PredictionType))}.'
            )
        if (prediction_type == "flow") != (betas is None):
            raise ModelError("A flow model has no betas, an epsilon or v_prediction model needs them.")
        self.unet = unet
        self.runner: Runner = UNetRunner(unet)
        self.prediction_type: PredictionType = prediction_type
        self.distilled = distilled
        if betas is None:
            self.alphas_cumprod = flow_alphas_cumprod()
        else:
            self.alphas_cumprod = torch.cumprod(1 - betas.to(torch.float64), dim=0)
            if not bool(((betas > 0) & (betas < 1)).all()):
                raise ModelError("Every beta of the noise process must lie between 0 and 1.")
        self._log_sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).log() / 2

    def run_by(self, runner: Runner) -> Self:
        """The same denoiser with another runner."""
        other = copy.copy(self)
        other.runner = runner
        return other

    def timestep(self, sigma: float) -> float:
        """What the UNet is told at a noise level: 1000 t of a flow, else 0 .. 999, with fractions."""
        if self.prediction_type == "flow":
            return 1000 * sigma / (1 + sigma)
        log_sigma = torch.tensor(sigma, dtype=torch.float64).clamp(min=1e-10).log()
        high = int(torch.searchsorted(self._log_sigmas, log_sigma).clamp(1, len(self._log_sigmas) - 1))
        low_log, high_log = self._log_sigmas[high - 1], self._log_sigmas[high]
        fraction = ((log_sigma - low_log) / (high_log - low_log)).clamp(0, 1)
        return high - 1 + float(fraction)

    def epsilon(self, x: Tensor, sigma: float, states: TextStates, condition: Tensor | None = None) -> Tensor:
        """The noise the model sees in variance-preserving latents x at noise level sigma, (B, C, h, w) as x.

        `condition` (B, 1 + C, h, w) is what models/image_condition.py makes, for models that are shown one.
        Flow: Lipman et al. 2210.02747, with z = (1 - t) z0 + t noise and v = noise - z0.
        v_prediction: Salimans & Ho 2202.00512, v = sqrt(abar) noise - sqrt(1 - abar) z0.
        """
        t = torch.full((len(x),), self.timestep(sigma), device=x.device, dtype=torch.float32)
        shown = [] if condition is None else [condition.to(x.dtype)]
        if self.prediction_type == "flow":
            time = sigma / (1 + sigma)
            z = x * math.hypot(1 - time, time)  # (B, C, h, w)
            return z + (1 - time) * self.runner(torch.cat([z, *shown], dim=1), t, states)
        output = self.runner(torch.cat([x, *shown], dim=1), t, states)
        if self.prediction_type == "epsilon":
            return output
        signal = 1 / math.hypot(1, sigma)  # sqrt(abar)
        return signal * output + sigma * signal * x

    @classmethod
    def from_scheduler_config(cls, unet: nn.Module, config: Mapping[str, Any]) -> "Denoiser":
        """Build the adapter from a folder's scheduler_config.json; ModelError names what cannot be used."""
        distilled = is_distilled(config)
        kind = config.get("prediction_type", "epsilon")
        if kind in ("flow_prediction", "flow"):
            return cls(unet, "flow", distilled=distilled)
        if kind not in ("epsilon", "v_prediction"):
            raise ModelError(
                f'This model predicts "{kind}"; epsilon, v_prediction and flow_prediction are known.'
            )
        if config.get("rescale_betas_zero_snr"):
            raise ModelError(
                "A noise process with zero terminal signal (rescale_betas_zero_snr) is not supported."
            )
        return cls(unet, kind, betas_from_config(config), distilled)

    def scheduler_config(self) -> dict[str, Any]:
        """What to write as scheduler_config.json, readable by diffusers."""
        name = "LCMScheduler" if self.distilled else "UniPCMultistepScheduler"
        if self.prediction_type == "flow":
            return {
                "_class_name": name,
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": True,
                "flow_shift": 1.0,
                "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
            }
        abar = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod])
        return {
            "_class_name": name,
            "prediction_type": self.prediction_type,
            "num_train_timesteps": len(self.alphas_cumprod),
            "trained_betas": (1 - abar[1:] / abar[:-1]).tolist(),
        }


def betas_from_config(config: Mapping[str, Any]) -> Tensor:
    """The betas (T,) float64 that a diffusers scheduler_config describes; ModelError if it cannot be read.

    linear and scaled_linear are diffusers' names; squaredcos_cap_v2 is Nichol & Dhariwal 2102.09672 eq. 17.
    """
    try:
        if config.get("trained_betas") is not None:
            return torch.tensor(config["trained_betas"], dtype=torch.float64)
        steps = int(config.get("num_train_timesteps", NUM_TRAIN_TIMESTEPS))
        start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
        schedule = config.get("beta_schedule", "linear")
        if not 2 <= steps <= 10_000:
            raise ModelError(f"The noise process has {steps} steps; 2 to 10000 can be used.")
        if schedule == "linear":
            return torch.linspace(start, end, steps, dtype=torch.float64)
        if schedule == "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        if schedule == "squaredcos_cap_v2":
            t = torch.arange(steps + 1, dtype=torch.float64) / steps
            abar = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
            return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)
    except (TypeError, ValueError) as error:
        raise ModelError(f"The noise process in scheduler_config.json cannot be read: {error}") from error
    raise ModelError(f'Unknown beta_schedule "{schedule}" in scheduler_config.json.')
