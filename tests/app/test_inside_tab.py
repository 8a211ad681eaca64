from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.context import open_context
from app.inside import likeness_words, map_uri
from app.settings import Settings
from app.tabs.generate import GenerateTab
from app.tabs.inside import InsideTab
from pipelines.local_engine import LocalEngine
from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY, values

ANOTHER = "a-secret-of-another-browser"


@pytest.fixture
def tab(tmp_path: Path, tiny_model_folder: Path, request: pytest.FixtureRequest) -> Iterator[InsideTab]:
    open_engine = getattr(request, "param", lambda folder: LocalEngine(folder, "cpu"))
    context = open_context([tiny_model_folder], open_engine, settings=Settings(outputs=tmp_path))
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        yield InsideTab(context, GenerateTab(context), tabs)
    context.close()


def looked_at(tab: InsideTab, **changes: Any) -> tuple[Any, ...]:
    *_, last = tab.look_ahead(BROWSER, NOBODY, *values(tab.form.fields, **changes).values())
    return last


def test_what_one_looks_at_is_nobody_elses(tab: InsideTab) -> None:
    looked, progress, about, words, *_ = looked_at(tab, prompt="a <b>red</b> apple")
    assert progress == ""
    assert "<b>red" not in about + words
    assert words.count('class="ls-word"') > 3
    assert "<figure>" in tab.choose_step(BROWSER, looked, 2, NOBODY)[0]
    with pytest.raises(gr.Error, match="no longer in memory"):
        tab.choose_step(ANOTHER, looked, 2, NOBODY)
    for handler in (
        tab.decode_step(ANOTHER, looked, 2, NOBODY),
        tab.go_on(ANOTHER, looked, 2, "a dog", 2.0, "Euler", NOBODY),
        tab.walk_to(ANOTHER, looked, "a dog", 8, 3, NOBODY),
    ):
        with pytest.raises(gr.Error, match="no longer in memory"):
            next(handler)


def test_a_branch_may_take_a_sampler_with_other_schedules(tab: InsideTab) -> None:
    looked = looked_at(tab, schedule="Karras")[0]
    *_, (progress, view) = tab.go_on(BROWSER, looked, 2, "a dog", 2.0, "DDIM", NOBODY)
    assert (progress, view.count("<figure>")) == ("", 2)
    with pytest.raises(gr.Error, match="guidance_scale"):
        next(tab.go_on(BROWSER, looked, 2, "a dog", 31.0, "DDIM", NOBODY))


def test_a_walk_may_not_leave_its_bounds(tab: InsideTab) -> None:
    looked = looked_at(tab, steps=1)[0]
    *_, (_, view) = tab.walk_to(BROWSER, looked, "a dog", 8, 10_000, NOBODY)
    assert view.count('alt="Picture ') == 24
    with pytest.raises(gr.Error, match="seed"):
        next(tab.walk_to(BROWSER, looked, "a dog", -1, 3, NOBODY))


@pytest.mark.parametrize("tab", [PacedEngine], indirect=True)
def test_an_engine_that_is_elsewhere_cannot_be_looked_into(tab: InsideTab) -> None:
    seen = looked_at(tab)
    assert "on this machine" in seen[1]


def test_the_second_drawing_is_compared_with_the_first() -> None:
    from PIL import Image

    red, redder = Image.new("RGB", (4, 4), (200, 0, 0)), Image.new("RGB", (4, 4), (202, 0, 0))
    assert "to the last bit" in likeness_words(red, red)
    assert "46.9 dB" in likeness_words(redder, red)  # 10 log10(255^2 / (4 / 3))
    assert "more than 2 of 255" in likeness_words(redder, red)


def test_a_flat_map_is_one_shade() -> None:
    import torch

    assert map_uri(torch.full((4, 2), 0.3)).startswith("data:image/png;base64,")


def test_a_reloaded_page_finds_its_look_again_and_nobody_elses(tab: InsideTab) -> None:
    before = looked_at(tab)
    assert list(tab.find_again(BROWSER, before[0], NOBODY)) == [before]
    for browser, looked in ((ANOTHER, before[0]), (BROWSER, ""), (BROWSER, "gone")):
        assert list(tab.find_again(browser, looked, NOBODY)) == [(gr.skip(),) * len(tab.seen)]
