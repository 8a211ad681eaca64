"""What the words of a prompt put into a model: LoRAs and embeddings, which must fit it."""

from torch import nn

from models.errors import RequestError
from models.folder import LatentDiffusionModel
from models.text_encoder import TextEncoder
from pipelines.prompt.expand import PromptFiles
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest


def text_encoders(model: LatentDiffusionModel) -> dict[str, TextEncoder]:
    """The text encoders of a model that reads words, by the names that LoRAs and embeddings use."""
    assert isinstance(model.text_encoder, TextEncoder)
    return {"text_encoder": model.text_encoder}


def networks(model: LatentDiffusionModel) -> dict[str, nn.Module]:
    """What LoRAs adapt, by the names that their files use."""
    encoders = {part: one.encoder for part, one in text_encoders(model).items()}
    return {"unet": model.denoiser.unet, **encoders}


def check_adapters(picture: GenerationRequest, files: PromptFiles, model: LatentDiffusionModel) -> None:
    """RequestError or ModelError where the expanded prompts of a picture name what a model cannot take."""
    words, tags = take_loras(picture.prompt)
    for tag in take_loras(picture.negative_prompt)[1]:
        raise RequestError(
            f'The negative prompt asks for the LoRA "{tag.name[:60]}"; write the tag into the prompt, '
            "where a weight below 0 turns it round."
        )
    for tag in tags:
        if reason := files.loras.find(tag.name).misfit(networks(model), model.model_id):
            raise RequestError(
                f'The LoRA "{tag.name}" does not fit {model.name}: {reason}. Choose the model that '
                "it was made for, or take its tag out of the prompt."
            )
    files.embeddings.refuse_pickles(words, picture.negative_prompt)
    for name, embedding in files.embeddings.in_words(words, picture.negative_prompt).items():
        encoders = text_encoders(model)
        widths = {part: one.encoder.get_input_embeddings().weight.shape[1] for part, one in encoders.items()}
        chunk_tokens = min(
            one.max_tokens - one.tokenizer.num_special_tokens_to_add() for one in encoders.values()
        )
        if reason := embedding.misfit(widths, chunk_tokens):
            raise RequestError(
                f'The embedding "{name}" does not fit {model.name}: {reason}. Choose the model that it was '
                "made for, or take the word out of the prompt."
            )
