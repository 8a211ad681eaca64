"""Orders in AUTOMATIC1111's words, without a server: what they become, and that nothing else escapes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api import bodies
from app.api.a1111_order import find_model, ignored, read_order
from app.cards import ModelCard
from models.defaults import GenerationDefaults
from models.errors import RequestError
from pipelines.inputs import InputStore
from pipelines.request import GenerationRequest


def a_card(name: str = "tiny") -> ModelCard:
    defaults = GenerationDefaults(
        width=32, height=32, steps=12, guidance_scale=3.0, sampler="DPM++ 2M", schedule="Uniform"
    )
    return ModelCard(name=name, path=Path(name), defaults=defaults, factor=8, distilled=False, examples=())


def ordered(folder: Path = Path("nowhere"), **fields: Any) -> GenerationRequest:
    body = bodies.read(bodies.TextToImage, json.dumps(fields).encode())
    return read_order(body, a_card(), InputStore(folder))


def test_what_is_left_out_is_as_the_model_draws_best() -> None:
    request = ordered(prompt="a red apple")
    assert (request.steps, request.guidance_scale, request.width) == (12, 3.0, 32)
    assert (request.sampler, request.schedule) == ("DPM++ 2M", "Uniform")


@pytest.mark.parametrize(
    ("fields", "sampler", "schedule"),
    [
        ({"sampler_name": "DPM++ 2M Karras"}, "DPM++ 2M", "Karras"),
        ({"sampler_index": "euler a"}, "Euler a", "Automatic"),
        ({"sampler_name": "Euler", "scheduler": "exponential"}, "Euler", "Exponential"),
        ({"sampler_name": "Euler", "scheduler": "automatic"}, "Euler", "Automatic"),
        ({"sampler_name": "Euler", "scheduler": "SGM Uniform"}, "Euler", "Uniform"),
        ({"scheduler": "Beta"}, "DPM++ 2M", "Beta"),
    ],
)
def test_samplers_are_understood_as_clients_of_all_ages_write_them(
    fields: dict[str, str], sampler: str, schedule: str
) -> None:
    request = ordered(**fields)
    assert (request.sampler, request.schedule) == (sampler, schedule)


@pytest.mark.parametrize("written", ["Starter", "starter", "Starter.safetensors", "Starter [0123abcd]"])
def test_a_model_is_found_by_each_of_its_titles(written: str) -> None:
    assert find_model(written, [a_card("other"), a_card("Starter")]).name == "Starter"


def test_what_has_no_effect_is_named_where_it_was_set() -> None:
    body = bodies.read(
        bodies.TextToImage,
        b'{"restore_faces": true, "s_churn": 0, "alwayson_scripts": {}, "eta": null, "new_field": [1],'
        b' "override_settings": {"sd_model_checkpoint": "tiny", "sd_vae": "x"}}',
    )
    assert ignored(body) == ["new_field", "restore_faces", "override_settings.sd_vae"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
FIELDS = sorted({*bodies.TextToImage.model_fields, *bodies.ImageToImage.model_fields, "unknown"})


@given(fields=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6), from_picture=st.booleans())
def test_any_order_is_a_request_or_refused(fields: dict[str, Any], from_picture: bool) -> None:
    kind = bodies.ImageToImage if from_picture else bodies.TextToImage
    with suppress(RequestError):
        body = bodies.read(kind, json.dumps(fields).encode())
        request = read_order(body, a_card(), InputStore(Path("nowhere")))
        assert request.seed is not None
        assert request.count == body.batch_size * body.n_iter


@given(data=st.binary(max_size=50))
def test_bytes_that_are_no_order_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        bodies.read(bodies.ImageToImage, data)
