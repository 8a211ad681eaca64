import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.filename import DEFAULT_PATTERN, MAX_NAME_BYTES, file_name
from pipelines.request import GenerationRequest
from tests.pipelines.test_request import RIGHT, TEXT, requests

NOON = 1_750_000_000.0
WORDS = [
    "[date]", "[time]", "[seed]", "[prompt]", "[negative]", "[model]", "[sampler]", "[schedule]", "[steps]",
    "[guidance]", "[size]", "[width]", "[height]", "[unknown]", "/", "..", "\\", "con", "NUL", ".", " ", "[",
    "]",
]  # fmt: skip


def name(pattern: str, **changes: object) -> str:
    return file_name(pattern, GenerationRequest(**(RIGHT | changes)), model_name="starter", created=NOON)


@given(
    pattern=st.lists(st.sampled_from(WORDS) | TEXT, max_size=8).map("".join),
    request=requests(),
    model=st.text(),
    created=st.floats(0, 4e9),
)
@settings(max_examples=150)
def test_any_name_is_one_file_in_one_folder_on_every_system(
    pattern: str, request: GenerationRequest, model: str, created: float
) -> None:
    found = file_name(pattern, request, model_name=model, created=created)
    assert 0 < len(found.encode()) <= MAX_NAME_BYTES
    assert all(c in "-_" or unicodedata.category(c)[0] in "LMN" for c in found)
    assert found.upper() not in (
        "CON",
        "PRN",
        "AUX",
        "NUL",
        *(f"{d}{n}" for d in ("COM", "LPT") for n in range(10)),
    )
    assert not found.startswith("-")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[seed]-[prompt]", "7-a-red-apple"),
        ("[SIZE] [steps] [sampler], [schedule]", "128x64-20-Euler-Karras"),
        ("[model]_[guidance]", "starter_5"),
        ("my [thing]", "my-thing"),
        ("../../etc/[seed]", "etc-7"),
        ("", "7"),
        ("...", "7"),
        ("nul", "_nul"),
        ("COM\N{SUPERSCRIPT ONE}", "_COM1"),
    ],
)
def test_words_in_brackets_are_filled_in(pattern: str, expected: str) -> None:
    assert name(pattern) == expected


def test_a_prompt_keeps_its_script_and_is_cut_between_letters() -> None:
    assert name("[prompt]", prompt="一顆 紅蘋果!") == "一顆-紅蘋果"
    assert name("[prompt]", prompt="蘋" * 500) == "蘋" * (MAX_NAME_BYTES // 3)
    assert name(DEFAULT_PATTERN, prompt="x" * 500).endswith("-7-" + "x" * 60)
