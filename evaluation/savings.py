"""What work an engine leaves out at no change of the picture, and how much of a picture's time that is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.timing import by_turns
from models.folder import load_model
from pipelines.decoding import decode_images
from pipelines.engine import LocalEngine
from pipelines.guidance import guided_epsilon
from pipelines.request import GenerationRequest

SIGMA = 1.0
BATCH = 4


@dataclass(frozen=True, slots=True)
class Saving:
    """Seconds of `of` that are saved, and their share of its time without the saving."""

    what: str
    of: str
    saved_seconds: float
    share: float
    exact: bool = True  # to rounding; else the picture is another

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def measure_savings(folder: Path, request: GenerationRequest, rounds: int) -> list[Saving]:
    """What is saved on a request of one picture, in processor time, with and without it by turns."""
    model = load_model(folder)
    engine, encoder, factor = (
        LocalEngine(model, "cpu"),
        model.text_encoder,
        model.autoencoder.downsampling_factor,
    )
    unprompted, prompt = (encoder.encode([words]) for words in ("", request.prompt))
    shape = model.autoencoder.latent_channels, request.height // factor, request.width // factor
    x = torch.randn(1, *shape)  # (1, C, h, w)
    latents = torch.randn(BATCH, *shape)

    def guided(scale: float) -> object:
        return guided_epsilon(model.denoiser, x, SIGMA, prompt, unprompted, scale)

    def draw(drawn: GenerationRequest) -> object:
        return list(engine.generate(drawn))

    half = replace(request, guidance_end=0.5)
    calls: dict[str, Callable[[int], object]] = {
        "picture": lambda _: draw(request),  # whose text states are known after the round not counted
        "half": lambda _: draw(half),
        "prompt": lambda _: encoder.encode([request.prompt]),
        "empty": lambda _: encoder.encode([""]),
        "one call": lambda _: guided(request.guidance_scale),
        "two calls": lambda _: (guided(1.0), guided(0.0)),
        "at once": lambda _: decode_images(model.autoencoder, latents),
        "one by one": lambda _: [decode_images(model.autoencoder, one[None]) for one in latents],
    }
    taken = {name: float(times.median()) for name, times in by_turns(calls, rounds, "savings").items()}
    picture, calls_saved = taken["picture"], request.steps * (taken["two calls"] - taken["one call"])

    def saving(what: str, saved: float, rest: float, of: str = "a picture", exact: bool = True) -> Saving:
        return Saving(what, of, saved, saved / (rest + saved), exact)

    return [
        saving("guidance in one call of the UNet, not two", calls_saved, picture),
        saving("the states of a prompt kept from the picture before", taken["prompt"], picture),
        saving("the states of the empty negative prompt kept", taken["empty"], picture),
        saving(
            f"{BATCH} pictures decoded at once",
            taken["one by one"] - taken["at once"],
            taken["at once"],
            f"the decoding of {BATCH}",
        ),
        saving(
            "guidance in the first half of the steps alone",
            picture - taken["half"],
            taken["half"],
            exact=False,
        ),
    ]
