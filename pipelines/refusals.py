"""What a model cannot draw of what is asked for, before anything is computed."""

from typing import Any

from models.errors import ModelError, RequestError
from models.latent_diffusion import LatentDiffusionModel
from pipelines.adapters import check_adapters
from pipelines.controlnets import ControlNets
from pipelines.inputs import InputStore
from pipelines.prompt.compose import split_composition
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.prompt.lora import take_loras
from pipelines.request import NO_STUDENT, GenerationRequest
from pipelines.samplers import SAMPLERS

MAX_COMPOSED_PROMPTS = 16  # each is a picture more in every call of the denoiser
LCM_MAX_STEPS = 50  # a consistency model is distilled on 50 noise levels


def why_not(
    request: GenerationRequest,
    model: LatentDiffusionModel,
    files: PromptFiles | None,
    inputs: InputStore | None,
    controlnets: ControlNets,
) -> str | None:
    """A sentence saying why a model cannot do a request, or None if it can.

    `files` holds the styles and wildcards, None for a model that draws classes, which have none.
    """
    factor, image_condition = model.autoencoder.downsampling_factor, model.image_condition
    if request.instant and model.instant is None:
        return NO_STUDENT
    if image_condition is not None and image_condition.why_not_words is not None:
        if request.image is None:
            return image_condition.why_not_words
        if request.image.paints_a_part or request.second_pass is not None:
            return f"{model.name} enlarges whole pictures; leave the mask and the second pass out."
    try:
        if files is None:
            if request.styles:
                return f"{model.name} draws classes, which have no styles; leave the styles out."
            model.text_encoder.tokenize([request.prompt, request.negative_prompt])
        else:
            for picture in expand(request.resolve(), files):
                _check_words(picture, model, files)
    except (RequestError, ModelError) as error:  # not the name of a class, or of a style, or a bad LoRA
        return str(error)
    if request.input_names and inputs is None:
        return "This engine has no folder of pictures to start from; draw from words alone."
    try:
        for name in request.input_names:
            assert inputs is not None
            inputs.open(name)
        _check_controls(request, model, controlnets)
    except (RequestError, ModelError) as error:
        return str(error)
    if request.width % factor or request.height % factor:
        return f"{model.name} needs sizes in multiples of {factor} pixels."
    if SAMPLERS[request.sampler].distilled_only and not model.denoiser.distilled:
        return f"{request.sampler} draws only with a distilled model, and {model.name} is not one."
    if request.sampler == "LCM" and request.steps > LCM_MAX_STEPS:
        return f"LCM takes at most {LCM_MAX_STEPS} steps, not {request.steps}; 4 to 8 are usual."
    return None


def _check_controls(
    request: GenerationRequest, model: LatentDiffusionModel, controlnets: ControlNets
) -> None:
    """RequestError or ModelError where a ControlNet is not there, damaged or not for this model."""
    factor = model.autoencoder.downsampling_factor
    unet: Any = model.denoiser.unet.config
    for control in request.controls:
        if reason := controlnets.find(control.controlnet).misfit(unet, factor):
            raise RequestError(
                f'The ControlNet "{control.controlnet}" does not fit {model.name}: {reason}. Choose '
                "the model that it was made for, or draw without it."
            )


def _check_words(picture: GenerationRequest, model: LatentDiffusionModel, files: PromptFiles) -> None:
    """RequestError or ModelError where the expanded prompts of a picture ask for what cannot be drawn."""
    check_adapters(picture, files, model)
    if (prompts := len(split_composition(take_loras(picture.prompt)[0]))) > MAX_COMPOSED_PROMPTS:
        raise RequestError(
            f"AND joins {prompts} prompts here; at most {MAX_COMPOSED_PROMPTS} can be drawn together."
        )
