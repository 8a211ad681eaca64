"""What `serve run` takes of the engine: the page's own options, with no cluster."""

import pytest
import torch
from pydantic import ValidationError

from app.commands.options import engine_options
from app.commands.parser import parse

pytestmark = pytest.mark.slow  # Ray takes over a second to import


def test_a_replica_draws_by_default_as_a_page_does() -> None:
    from app.ray_app import Options

    page = parse(["ui"])
    assert engine_options(Options()) == engine_options(page)
    assert Options().device == page.device


def test_words_of_the_command_line_choose_the_engine_of_a_replica() -> None:
    from app.ray_app import Options

    words = {"engine": "torch", "dtype": "bfloat16", "compile": "true"}
    chosen = engine_options(Options.model_validate(words))
    assert chosen == {"runner": "torch", "dtype": torch.bfloat16, "compiled": True}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ({"engine": "fast"}, "engine\n.*'auto', 'torch' or 'openvino'"),
        ({"dtype": "int8"}, "dtype\n.*'float32', 'bfloat16' or 'float16'"),
        ({"engin": "torch"}, "engin\n.*not permitted"),
    ],
)
def test_what_is_no_option_is_told_with_what_there_is(word: dict[str, str], sentence: str) -> None:
    from app.ray_app import Options

    with pytest.raises(ValidationError, match=sentence):
        Options.model_validate(word)
