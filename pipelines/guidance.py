"""The guided prediction of one call: towards a prompt, several, or away from another."""

import torch
from torch import Tensor

from models.denoiser import Denoiser
from models.text_encoder import TextStates
from pipelines.prompt.conditions import Composition, Condition


@torch.inference_mode()
def guided_epsilon(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    cond: Condition,
    uncond: TextStates,
    guidance_scale: float,
    condition: Tensor | None = None,
) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2207.12598): both predictions in one call of twice the batch.

    The scale counts from the unconditional prediction: 0 is that one alone, 1 the conditional alone. An image
    condition is given to both.
    """
    if guidance_scale == 0:
        return denoiser.epsilon(x, sigma, uncond, condition)
    if isinstance(cond, Composition):
        return _composed_epsilon(denoiser, x, sigma, cond, uncond, guidance_scale, condition)
    if guidance_scale == 1:
        return denoiser.epsilon(x, sigma, cond, condition)
    shown = None if condition is None else torch.cat([condition, condition])
    both = denoiser.epsilon(torch.cat([x, x]), sigma, TextStates.cat([uncond, cond]), shown)  # (2B, C, h, w)
    without, given = both.chunk(2)
    return without + guidance_scale * (given - without)


def _composed_epsilon(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    cond: Composition,
    uncond: TextStates,
    guidance_scale: float,
    condition: Tensor | None,
) -> Tensor:
    """Guidance towards several prompts, each by its weight, in one call (Liu et al. 2206.01714)."""
    of = cond.pictures  # (N,)
    shown = None if condition is None else torch.cat([condition, condition[of]])
    states = TextStates.cat([uncond, cond.states])
    every = denoiser.epsilon(torch.cat([x, x[of]]), sigma, states, shown)  # (B + N, C, h, w)
    without, given = every[: len(x)], every[len(x) :]
    weights = cond.weights.to(x.dtype).view(-1, 1, 1, 1)
    return without.index_add(0, of, guidance_scale * weights * (given - without[of]))
