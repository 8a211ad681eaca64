"""What tests put into a library, and what they find there."""

from pathlib import Path

from PIL import Image

from app.library import Library
from app.picture import Picture
from pipelines.png import save_png
from pipelines.result import GenerationResult
from tests.app.engines import a_request


def a_result(
    prompt: str = "a red apple", count: int = 1, seed: int = 7, **changes: object
) -> GenerationResult:
    return GenerationResult(
        images=[Image.new("RGB", (32, 32), (i, 20, 30)) for i in range(count)],
        request=a_request(prompt, count=count, seed=seed, **changes),
        model_name="tiny",
        model_id="0123456789",
        engine="paced",
        seconds=0.1,
    )


def everything(library: Library) -> list[tuple[object, ...]]:
    return [tuple(row) for row in library._database.read("SELECT * FROM pictures ORDER BY path")]


def draw_by_command(path: Path, prompt: str = "a red apple", seed: int = 7) -> None:
    request = a_request(prompt, seed=seed)
    save_png(Image.new("RGB", (32, 32)), path, request, model_name="tiny", model_id="0123456789")


def prompts(found: tuple[list[Picture], int]) -> list[str]:
    return [picture.request.prompt for picture in found[0]]
