"""What work an engine leaves out at no change of the picture, and how much of a picture's time that is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.timing import by_turns
from models.denoiser import UNetRunner
from models.folder import load_autoencoder, load_model
from models.text_encoder import TextStates
from pipelines.decoding import decode_images
from pipelines.guidance import guided_epsilon
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.runners.on_torch import TorchRunner

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
    engine = LocalEngine(model, "cpu")
    encoder, factor = model.text_encoder, model.autoencoder.downsampling_factor
    usual_autoencoder = load_autoencoder(folder)  # the engine has changed the other's layers
    each_step, kept = UNetRunner(model.denoiser.unet), TorchRunner(model.denoiser.unet)
    unprompted, prompt = (encoder.encode([words]) for words in ("", request.prompt))
    shape = model.autoencoder.latent_channels, request.height // factor, request.width // factor
    x = torch.randn(1, *shape)  # (1, C, h, w)
    latents = torch.randn(BATCH, *shape)
    z, t, states = torch.cat([x, x]), torch.full((2,), 500.0), TextStates.cat([unprompted, prompt])

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
        "keys of each step": lambda _: each_step(z, t, states),
        "keys kept": lambda _: kept(z, t, states),
        "doubled first": lambda _: decode_images(usual_autoencoder, latents[:1]),
        "small grid": lambda _: decode_images(model.autoencoder, latents[:1]),
        "at once": lambda _: decode_images(model.autoencoder, latents),
        "one by one": lambda _: [decode_images(model.autoencoder, one[None]) for one in latents],
    }
    taken = {name: float(times.median()) for name, times in by_turns(calls, rounds, "savings").items()}
    picture, calls_saved = taken["picture"], request.steps * (taken["two calls"] - taken["one call"])
    keys_saved = request.steps * (taken["keys of each step"] - taken["keys kept"])

    def saving(what: str, saved: float, rest: float, of: str = "a picture", exact: bool = True) -> Saving:
        return Saving(what, of, saved, saved / (rest + saved), exact)

    return [
        saving("guidance in one call of the UNet, not two", calls_saved, picture),
        saving("the keys and values of a prompt computed once, not at every step", keys_saved, picture),
        saving("the states of a prompt kept from the picture before", taken["prompt"], picture),
        saving("the states of the empty negative prompt kept", taken["empty"], picture),
        saving(
            "convolving on the small grid what is doubled",
            taken["doubled first"] - taken["small grid"],
            taken["small grid"],
            "the decoding of one",
        ),
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
