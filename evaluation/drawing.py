"""Pictures drawn to be measured, each kept, so that what is interrupted goes on where it stopped."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from models.writing import write_bytes
from pipelines.decoding import decode_images
from pipelines.local_engine import LocalEngine
from pipelines.noise import Noise
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.sampling import sample_latents
from training.runs import runs_folder


def draw_all(engine: LocalEngine, requests: Sequence[GenerationRequest], what: str) -> list[Path]:
    """One PNG for each request of a single picture, in runs/cache/drawn/; those that are there are kept."""
    files = _files(engine, requests)
    for request, file in tqdm(
        list(zip(requests, files, strict=True)), desc=what, unit="picture", leave=False
    ):
        if file.exists():
            continue
        for event in engine.generate(request):
            if isinstance(event, GenerationResult):
                _keep(event.images[0], file)
    return files


def draw_in_batches(
    engine: LocalEngine, requests: Sequence[GenerationRequest], batch_images: int, what: str
) -> list[Path]:
    """As `draw_all`, several at a time, of requests that differ in prompt and seed alone."""
    files = _files(engine, requests)
    missing = [number for number, file in enumerate(files) if not file.exists()]
    with tqdm(desc=what, unit="picture", total=len(files), initial=len(files) - len(missing)) as bar:
        for first in range(0, len(missing), batch_images):
            batch = missing[first : first + batch_images]
            prompts = engine.model.text_encoder.encode([requests[number].prompt for number in batch])
            seeds = [requests[number].seed or 0 for number in batch]
            images = draw_batch(engine.model, requests[0], prompts.to(engine.device), seeds)
            for number, image in zip(batch, images, strict=True):
                _keep(image, files[number])
            bar.update(len(batch))
    return files


def draw_batch(
    model: LatentDiffusionModel, request: GenerationRequest, prompts: TextStates, seeds: Sequence[int]
) -> list[Image.Image]:
    """Pictures of prompts (B, T, D) and B seeds, the rest as `request` says."""
    factor, device = model.autoencoder.downsampling_factor, prompts.hidden.device
    sampling = sample_latents(
        model.denoiser,
        make_scheduler(SAMPLERS[request.sampler], request.schedule, model.denoiser, request.steps),
        Noise(seeds),
        (model.autoencoder.latent_channels, request.height // factor, request.width // factor),
        prompts,
        model.text_encoder.encode([request.negative_prompt]).to(device),
        request.guidance_scale,
    )
    while True:
        try:
            next(sampling)
        except StopIteration as end:
            return decode_images(model.autoencoder, end.value)


def _files(engine: LocalEngine, requests: Sequence[GenerationRequest]) -> list[Path]:
    model, folder = engine.model, runs_folder() / "cache" / "drawn"
    # A student's pictures go with the student: another may have taken its place beside the same teacher.
    by = [model.instant if one.instant and model.instant is not None else model for one in requests]
    names = [hashlib.sha256(f"{engine.name} {one.to_json()}".encode()).hexdigest()[:20] for one in requests]
    return [folder / one.model_id / f"{name}.png" for one, name in zip(by, names, strict=True)]


def _keep(image: Image.Image, file: Path) -> None:
    png = io.BytesIO()
    image.save(png, "PNG")
    write_bytes(file, png.getvalue())
