"""What the words of a prompt put into a model: LoRAs and embeddings, which must fit it."""

from torch import nn

from models.embeddings import input_embedding
from models.errors import RequestError
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextEncoder
from pipelines.prompt.expand import PromptFiles
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest


def networks(model: LatentDiffusionModel) -> dict[str, nn.Module]:
    """What LoRAs adapt in a model that reads words, by the names that their files use."""
    assert isinstance(model.text_encoder, TextEncoder)
    return {"unet": model.denoiser.unet, **model.text_encoder.encoders}


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
        encoder = model.text_encoder
        assert isinstance(encoder, TextEncoder)
        widths = {part: input_embedding(one).weight.shape[1] for part, one in encoder.encoders.items()}
        chunk_tokens = encoder.max_tokens - encoder.tokenizer.num_special_tokens_to_add()
        if reason := embedding.misfit(widths, chunk_tokens):
            raise RequestError(
                f'The embedding "{name}" does not fit {model.name}: {reason}. Choose the model that it was '
                "made for, or take the word out of the prompt."
            )
