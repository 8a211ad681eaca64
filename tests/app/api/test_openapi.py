"""The description of the routes for programs, and what schemathesis finds by it on a real server."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from app.api import bodies, openapi, order
from tests.app.api.studio import ApiStudio, running
from tests.app.engines import PacedEngine


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    outputs = tmp_path_factory.mktemp("described")
    engine = PacedEngine(tiny_model_folder)
    with running(outputs, tiny_model_folder, lambda _folder: engine) as started:
        yield started


def test_the_description_of_an_order_has_the_fields_that_are_read() -> None:
    read = order.OURS | order.THEIRS | order.IGNORED | {order.EVERYTHING}
    assert set(bodies.ImagesOrder.model_fields) == read


@pytest.mark.slow
def test_every_route_is_described_with_bounds(studio: ApiStudio) -> None:
    answer = studio.studio.ask("GET", openapi.SCHEMA_PATH)
    assert answer.status == 200
    document = json.loads(answer.body)
    assert {"/v1/images/generations", "/sdapi/v1/txt2img", "/sdapi/v1/progress"} <= set(document["paths"])
    assert set(document["components"]["securitySchemes"]) == {"basic", "bearer"}
    numbers = 0
    for name, model in document["components"]["schemas"].items():
        for field, schema in model["properties"].items():
            for one in schema.get("anyOf", [schema]):
                if one.get("type") in ("integer", "number"):
                    numbers += 1
                    assert {"minimum", "maximum"} <= set(one) or name == "SecondPass", (name, field)
    assert numbers > 30


@pytest.mark.slow
def test_the_page_for_people_loads_nothing_from_elsewhere(studio: ApiStudio) -> None:
    answer = studio.studio.ask("GET", openapi.PAGE_PATH)
    page = answer.body.decode()
    assert answer.status == 200
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "/sdapi/v1/txt2img" in page
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def ask_everything(studio: ApiStudio, examples: int, usual_seed: int) -> None:
    """Each operation with what its schema allows and with what it does not: never a failure of the server."""
    chosen = int(os.environ.get("SCHEMATHESIS_SEED") or usual_seed)
    print(f"SCHEMATHESIS_SEED={chosen}")
    schema = schemathesis.openapi.from_url(f"{studio.url}{openapi.SCHEMA_PATH}")
    for found in schema.get_all_operations():
        operation = found.ok()
        right = operation.as_strategy()
        wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
        cases = st.one_of(right, wrong) if operation.body else right

        @seed(chosen)
        @settings(max_examples=examples if operation.body else 1, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck), phases=(Phase.generate,))  # fmt: skip
        @given(case=cases)
        def ask(case: Any) -> None:
            response = case.call(timeout=120)
            case.validate_response(response, checks=[not_a_server_error])
            assert response.status_code < 500

        ask()


@pytest.mark.slow
def test_nothing_that_schemathesis_makes_up_fails_the_server(studio: ApiStudio) -> None:
    ask_everything(studio, 8, 1)


@pytest.mark.exhaustive
def test_nothing_of_a_lot_that_schemathesis_makes_up_fails_the_server(studio: ApiStudio) -> None:
    ask_everything(studio, 1000, random.SystemRandom().randrange(2**32))
