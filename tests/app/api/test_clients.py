"""A real server, started as people start it, draws with the model that ships for the clients people use."""

import base64
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import webuiapi
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from app.security import set_password
from pipelines.png import read_png
from tests.app.doors import PASSWORD

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SIDE = 64
KEY = f"ann:{PASSWORD}"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    outputs = tmp_path_factory.mktemp("clients")
    environment = os.environ | {"LATENT_STUDIO_OUTPUTS": str(outputs), "PYTHONUNBUFFERED": "1"}
    people = outputs / "people"
    set_password(people, "ann", PASSWORD)
    people.chmod(0o600)
    command = [
        sys.executable,
        "launch.py",
        "--no-setup",
        "ui",
        "--port",
        "0",
        "--no-browser",
        "--engine",
        "torch",
        "--auth-file",
        str(people),
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = next(filter(None, (re.search(r"ready: (http\S+)/", line) for line in process.stdout)))
        yield found[1]
    finally:
        process.terminate()
        process.wait(60)


def test_the_openai_client_lists_the_models_and_draws(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY)
    (first, *_) = client.models.list().data
    answer = client.images.generate(
        model=first.id,
        prompt="a red apple",
        size="64x64",  # type: ignore[call-overload]
        n=2,
        quality="low",
        extra_body={"steps": 2, "seed": 7},
    )
    assert answer.data is not None
    for index, picture in enumerate(answer.data):
        inside = read_png(io.BytesIO(base64.b64decode(picture.b64_json or "")))
        assert inside is not None
        assert (inside.request.seed, inside.request.steps) == (7 + index, 2)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{address}/v1", api_key="ann:wrong").models.list()
    with pytest.raises(openai.BadRequestError, match="multiple of 8"):
        client.images.generate(model=first.id, prompt="a red apple", size="65x64")  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError, match="is not here"):
        client.images.generate(model="gone", prompt="a red apple")
    events = client.images.generate(
        prompt="a red apple", size="64x64", stream=True, partial_images=2, extra_body={"steps": 3, "seed": 7}
    )
    assert [event.type for event in events][-1] == "image_generation.completed"


def test_webuiapi_draws(address: str) -> None:
    client = webuiapi.WebUIApi(
        baseurl=f"{address}/sdapi/v1", sampler="Euler", username="ann", password=PASSWORD
    )
    answer = client.txt2img(prompt="a red apple", width=SIDE, height=SIDE, steps=2, seed=7)
    assert answer.image.size == (SIDE, SIDE)
    again = client.img2img(images=[answer.image], prompt="a red apple", width=SIDE, height=SIDE, steps=4)
    assert again.image.size == (SIDE, SIDE)


def test_gradio_client_finds_one_endpoint_and_draws(address: str, tmp_path: Path) -> None:
    client = Client(
        address, verbose=False, download_files=str(tmp_path), headers={"Authorization": f"Bearer {KEY}"}
    )
    described = client.view_api(return_format="dict", print_info=False)
    assert isinstance(described, dict)
    assert list(described["named_endpoints"]) == ["/generate"]
    names = [one["parameter_name"] for one in described["named_endpoints"]["/generate"]["parameters"]]
    assert names[:3] == ["prompt", "negative_prompt", "model"]
    assert "request" not in names
    job = client.submit(
        prompt="a red apple", steps=3, width=SIDE, height=SIDE, seed=7, count=2, api_name="/generate"
    )
    answer = job.result(timeout=120)
    assert (answer["state"], answer["progress"], answer["seed"]) == ("done", 1.0, 7)
    for index, path in enumerate(answer["pictures"]):
        with Image.open(path) as picture:
            assert picture.size == (SIDE, SIDE)
        inside = read_png(path)
        assert inside is not None
        assert inside.request.seed == 7 + index
    for wrong in ({"width": 65}, {"steps": 0}, {"prompt": "\0"}, {"sampler": "Quantum"}, {"model": "gone"}):
        with pytest.raises(AppError, match=r"\w+ .*\.$"):
            client.predict(**{"prompt": "a red apple", **wrong}, api_name="/generate")
