"""Pictures drawn to be measured, each kept, so that what is interrupted goes on where it stopped."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.weights import write_bytes
from pipelines.engine import LocalEngine
from pipelines.request import GenerationRequest, GenerationResult
from training.run import runs_folder


def draw_all(engine: LocalEngine, requests: Sequence[GenerationRequest], what: str) -> list[Path]:
    """One PNG for each request of a single picture, in runs/cache/drawn/; those that are there are kept."""
    folder = runs_folder() / "cache" / "drawn" / engine.model.model_id
    files = []
    for request in tqdm(requests, desc=what, unit="picture", leave=False):
        name = hashlib.sha256(f"{engine.name} {request.to_json()}".encode()).hexdigest()[:20]
        files.append(folder / f"{name}.png")
        if files[-1].exists():
            continue
        for event in engine.generate(request):
            if isinstance(event, GenerationResult):
                png = io.BytesIO()
                event.images[0].save(png, "PNG")
                write_bytes(files[-1], png.getvalue())
    return files
