"""From maps of tokens to maps of words: which tokens are a word, and what a word looks at."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextEncoder
from pipelines.inside.attention import AttentionRunner
from pipelines.noise import Noise
from pipelines.prompt.attention import parse_attention
from pipelines.prompt.chunks import NO_WORDS, Tokens
from pipelines.prompt.encode import PromptEncoder

# How a piece of a tokenizer's says that it begins a word; WordPiece says that it goes on, CLIP that it ends.
BEGINS = {"RobertaTokenizer": "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}", "T5Tokenizer": "\u2581"}


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a prompt and its places among the token states."""

    text: str
    places: tuple[int, ...]


def words_of(encoder: TextEncoder, prompt: str, learned: Mapping[str, int] = NO_WORDS) -> list[Word]:
    """The words of a prompt with weights, as an encoder reads them; begin, end and padding are no words.

    Those that are `learned` have so many places each.
    """
    tokens = Tokens(encoder.tokenizer, encoder.max_tokens, encoder.is_clip)
    words: list[Word] = []
    start = 0
    for chunk in tokens.read(parse_attention(prompt), learned).chunks:
        groups: list[list[int]] = []
        numbers = [token.number for token in chunk]
        pieces: list[str] = encoder.tokenizer.convert_ids_to_tokens(numbers)
        for at, piece in enumerate(pieces):
            vector = chunk[at].learned
            if vector is not None:
                goes_on = vector[1] > 0
            elif groups and chunk[at - 1].learned is None:
                goes_on = _goes_on(piece, pieces[at - 1], encoder.family.tokenizer)
            else:
                goes_on = False
            if goes_on:
                groups[-1].append(at)
            else:
                groups.append([at])
        begin = start + len(tokens.begin)
        for group in groups:
            vector = chunk[group[0]].learned
            written = vector[0] if vector else encoder.tokenizer.decode([numbers[at] for at in group]).strip()
            words.append(Word(written, tuple(begin + at for at in group)))
        start += encoder.max_tokens if encoder.is_clip else len(tokens.begin) + len(chunk) + 1
    return words


def word_maps(maps: Tensor, words: list[Word]) -> Tensor:
    """The maps of words (W, h, w) in those of all tokens (T, h, w): a word has what its tokens have together.

    They do not sum to 1: the rest is what begin and end have, which many a place looks at.
    """
    found = maps.new_zeros(len(words), *maps.shape[-2:])
    for word, own in zip(words, found, strict=True):
        own += maps[list(word.places)].sum(0)
    return found


@torch.inference_mode()
def words_of_picture(
    model: LatentDiffusionModel, pixels: Tensor, caption: str, sigma: float = 1.0, seed: int = 0
) -> tuple[list[Word], Tensor]:
    """The words of a caption and their maps (W, h, w) over a picture (1, 3, H, W) in [-1, 1], in one call.

    Its latents are noised to `sigma`, noise to signal; 1 is t = 0.5 of a flow.
    """
    encoder = model.text_encoder
    assert isinstance(encoder, TextEncoder)
    runner = AttentionRunner(model.denoiser.unet)
    denoiser = copy.copy(model.denoiser)
    denoiser.runner = runner
    clean = model.autoencoder.encode(pixels)  # (1, C, h, w)
    noise = Noise([seed]).draw(clean.shape[1:]).to(clean)
    noisy = (clean + sigma * noise) / (1 + sigma**2) ** 0.5
    denoiser.epsilon(noisy, sigma, PromptEncoder(encoder).encode(caption))
    words = words_of(encoder, caption)
    return words, word_maps(runner.take()[0], words)


def _goes_on(piece: str, before: str, tokenizer: str) -> bool:
    """Whether a piece belongs to the word of the one before it."""
    if tokenizer == "CLIPTokenizer":
        return not before.endswith("</w>")
    if tokenizer in BEGINS:
        return not piece.startswith(BEGINS[tokenizer])
    return piece.startswith("##")
