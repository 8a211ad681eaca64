"""The loop that diffusers' documentation shows, in float32 and eager: what engines are measured against.

https://huggingface.co/docs/diffusers/using-diffusers/write_own_pipeline, on the modules of a model here. It
is given two things more: the noise levels that the application draws at, so that both draw the same picture,
and the other inputs that a UNet of ours has, the mask of the tokens and their pooled mean.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from models.denoiser import Denoiser
from models.errors import RequestError
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextEncoder, TextStates
from pipelines.request import GenerationRequest
from pipelines.samplers import noise_levels

# Called with the name of a part when it is done.
Mark = Callable[[str], None]


@torch.no_grad()
def draw(
    model: LatentDiffusionModel, request: GenerationRequest, mark: Mark = lambda part: None
) -> list[Image.Image]:
    """The pictures of a request with a known seed, all at once; marks "text", "unet" and "decoder".

    Raises RequestError for a sampler that `build_scheduler` does not have.
    """
    assert isinstance(model.text_encoder, TextEncoder)
    unet: Any = model.denoiser.unet
    prompt = model.text_encoder.encode([request.prompt] * request.count)  # (B, T, D)
    unprompted = model.text_encoder.encode([request.negative_prompt] * request.count)
    states = TextStates.cat([unprompted, prompt])  # (2B, T, D)
    inputs: dict[str, Any] = {"encoder_hidden_states": states.hidden}
    if not model.text_encoder.is_clip:  # whose padding is read like any token
        inputs["encoder_attention_mask"] = states.mask  # (2B, T)
    if unet.config.class_embed_type is not None:
        inputs["class_labels"] = states.pooled  # (2B, D)
    mark("text")

    assert request.seed is not None
    factor = model.autoencoder.downsampling_factor
    shape = (model.autoencoder.latent_channels, request.height // factor, request.width // factor)
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.count)]
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])  # (B, C, h, w)
    scheduler, scale = build_scheduler(model.denoiser, request)
    latents = noise * scale
    for t in scheduler.timesteps:
        latent_model_input = torch.cat([latents] * 2)  # (2B, C, h, w): no second pass through the UNet
        if hasattr(scheduler, "scale_model_input"):
            latent_model_input = scheduler.scale_model_input(latent_model_input, t)
        noise_pred = unet(latent_model_input, t, **inputs).sample
        noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)
        noise_pred = noise_pred_uncond + request.guidance_scale * (noise_pred_text - noise_pred_uncond)
        latents = scheduler.step(noise_pred, t, latents).prev_sample
    mark("unet")

    image: Tensor = model.autoencoder.decode(latents)  # (B, 3, H, W)
    image = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    pictures = [Image.fromarray(array) for array in (image * 255).round().to(torch.uint8).numpy()]
    mark("decoder")
    return pictures


def build_scheduler(denoiser: Denoiser, request: GenerationRequest) -> tuple[Any, float]:
    """A scheduler of diffusers on the model's own prediction, and the scale of the noise it starts from.

    Euler and DDIM are one method, for both kinds of model (Song et al. 2010.02502 eq. 13); DPM++ 2M on flows.
    Raises RequestError for anything else, and for schedules other than Automatic.
    """
    name, is_flow = request.sampler, denoiser.prediction_type == "flow"
    if name not in ("Euler", "DDIM", *(["DPM++ 2M"] if is_flow else [])) or request.schedule != "Automatic":
        raise RequestError(
            f"The loop of diffusers' documentation is not written for {name} with the schedule "
            f"{request.schedule} on this model; Euler with Automatic always is."
        )
    sigmas = noise_levels("Uniform", denoiser.alphas_cumprod, request.steps, is_flow)  # (steps,)
    if not is_flow:
        abar = torch.cat([torch.ones(1, dtype=torch.float64), denoiser.alphas_cumprod])
        scheduler = EulerDiscreteScheduler(
            trained_betas=(1 - abar[1:] / abar[:-1]).tolist(), prediction_type=denoiser.prediction_type
        )
        scheduler.set_timesteps(sigmas=[*sigmas.tolist(), 0.0])
        return scheduler, float(scheduler.init_noise_sigma)
    times = (sigmas / (1 + sigmas)).float()
    # A step short of pure noise a flow's latents have a hair less than unit variance.
    scale = float((times[0] ** 2 + (1 - times[0]) ** 2).sqrt())
    if name == "DPM++ 2M":
        scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
        scheduler.set_timesteps(request.steps)
        scheduler.sigmas = torch.cat([times, times.new_zeros(1)])
        scheduler.timesteps = 1000 * times
        scheduler.set_begin_index(0)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=times.tolist())
    return scheduler, scale
