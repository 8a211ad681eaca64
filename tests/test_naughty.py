"""The Big List of Naughty Strings, and any unicode, as prompts: an image or a sentence, nothing breaks."""

import base64
import io
import json
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import BROWSER
from app.log import OneLine, printable
from pipelines.png import read_png
from tests.app.api.studio import ApiStudio
from tests.app.whole import Page, whole_studio
from tests.commands import Generate
from tests.corpora import naughty_strings

SMALL = ("--steps", "1", "--width", "32", "--height", "32")
SAMPLE = 12
# Half a surrogate pair, nulls, marks of direction, line ends of every kind, an escape sequence of a terminal.
CHARACTERS = st.characters() | st.sampled_from(
    "\0\ud800\udfff\u202e\u200f\u2028\x85\r\n\x1b\x07\ufeff\U000e0001"
)


def naughty(how_many: str) -> list[str]:
    """All of the strings, or a sample, the same at all times."""
    strings = naughty_strings()
    assert len(strings) > 480
    if how_many == "all":
        return strings
    return random.Random(0).sample(strings, SAMPLE)


HOW_MANY = pytest.mark.parametrize("how_many", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    from pipelines.local_engine import LocalEngine

    outputs = tmp_path_factory.mktemp("naughty")
    with whole_studio(outputs, tiny_model_folder, lambda folder: LocalEngine(folder, "cpu")) as studio:
        yield studio


@pytest.mark.slow
@HOW_MANY
def test_one_process_draws_each_of_them_with_the_very_words_inside(
    generate: Generate, tmp_path: Path, how_many: str
) -> None:
    strings = naughty(how_many)
    lines = "\n".join(json.dumps({"prompt": text, "seed": 1}) for text in strings)
    (tmp_path / "prompts.jsonl").write_text(lines, encoding="utf-8")
    out = tmp_path / "out"
    paths = generate("--prompts-file", tmp_path / "prompts.jsonl", "--output-dir", out, *SMALL)
    inside = [read_png(Path(path)) for path in paths]
    assert [settings.request.as_typed().prompt for settings in inside if settings] == strings
    assert {path.parent for path in out.rglob("*") if path.is_file()} == {out}


@pytest.mark.slow
@HOW_MANY
def test_the_api_and_the_page_draw_or_refuse_each_of_them(whole: ApiStudio, how_many: str) -> None:
    page = Page(whole.studio, "naughty")
    for text in naughty(how_many):
        status, answer = whole.order(prompt=text, steps=1, size="32x32", seed=1)
        if status == 200:
            inside = read_png(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
            assert inside is not None
            assert inside.request.as_typed().prompt == text
        else:
            assert status == 400, text
            assert answer["error"]["message"].endswith(".")
        pressed = page.press("generate", prompt=text, steps=1, seed=1, size="32x32")
        # Who presses without words is asked for some; a program may mean it.
        assert pressed.succeeded == (status == 200 and bool(text.strip())), text
        while whole.context.jobs.active(f"{BROWSER}naughty"):
            time.sleep(0.02)
        if pressed.succeeded:
            newest = whole.context.library.newest(f"{BROWSER}naughty", 1)[0]
            assert newest.request.as_typed().prompt == text.strip()  # as the page takes it
    assert whole.order(steps=1, size="32x32")[0] == 200


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(prompt=st.text(CHARACTERS, max_size=40), negative=st.text(CHARACTERS, max_size=10))
def test_any_unicode_is_drawn_or_refused_in_a_sentence(whole: ApiStudio, prompt: str, negative: str) -> None:
    fields: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    status, answer = whole.order(**fields, steps=1, size="32x32", seed=1)
    if any("\ud800" <= character <= "\udfff" or character == "\0" for character in prompt + negative):
        assert status == 400
    assert status in (200, 400)
    if status == 400:
        assert answer["error"]["message"].endswith(".")
    else:
        request = answer["data"][0]["latent_studio"]["request"]
        assert (request["prompt"], request["negative_prompt"]) == (prompt, negative)


@given(text=st.text(CHARACTERS))
def test_what_is_logged_of_any_text_is_one_line_without_control_characters(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert len((line + "x").splitlines()) == 1


def test_a_record_of_the_log_is_one_line_and_its_traceback_is_set_in() -> None:
    try:
        raise RuntimeError("no\nWARNING root: all is well\x1b[2J")
    except RuntimeError as error:
        record = logging.LogRecord("a", 30, "b", 1, "%s\n%s", ("x\r", "\u202ey"), (type(error), error, None))
    first, *rest = OneLine().format(record).split("\n")
    assert first == "WARNING a: x\\r\\n\\u202ey"
    assert rest
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
