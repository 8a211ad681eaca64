"""What can be done with the chosen picture; others cannot do it."""

from typing import Any

import gradio as gr
import pytest

from app import text
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, click, submit


@pytest.fixture
def tab(open_tab: OpenTab) -> Any:
    tab = open_tab()
    submit(tab, negative_prompt="a <dog>", guidance_start=0.25)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    tab.last = last
    return tab


def test_each_setting_is_a_button_that_uses_it_alone(tab: Any) -> None:
    details, selected = tab.last[tab.chosen.details], tab.last[tab.chosen.selected]
    for name in ("prompt", "negative", "seed", "steps", "interval", "model"):
        assert f'data-id="{name}"' in details
    assert 'data-copy="a red apple"' in details
    assert 'data-copy="7"' in details
    assert "<dog>" not in details
    model = str(tab.context.models[0].path)
    used = tab.chosen.use_detail(BROWSER, selected, model, NOBODY, click("seed"))
    assert used == {tab.chosen.link: "", tab.form.seed: 7}


def test_a_picture_comes_in_other_formats_with_its_settings(tab: Any) -> None:
    from pathlib import Path
    from re import findall
    from urllib.parse import unquote

    from pipelines.metadata.settings import read_settings

    selected = tab.last[tab.chosen.selected]
    for format, ending in (("JPEG", ".jpg"), ("WebP", ".webp"), ("PNG", ".png")):
        link = tab.chosen.use_detail(BROWSER, selected, "", NOBODY, click(f"as:{format}"))[tab.chosen.link]
        (url,) = findall('href="gradio_api/file=([^"]+)"', link)
        file = Path(unquote(url))
        assert file.suffix == ending
        settings = read_settings(file)
        assert settings is not None
        assert settings.request == tab.context.library.find(selected, OWNER).request


def test_a_favourite_is_made_and_unmade(tab: Any) -> None:
    selected = tab.last[tab.chosen.selected]
    assert tab.last[tab.chosen.favourite] == text.FAVOURITE_ADD
    for label, is_one in ((text.FAVOURITE_REMOVE, True), (text.FAVOURITE_ADD, False)):
        assert tab.chosen.turn_favourite(BROWSER, selected, NOBODY) == label
        assert tab.context.library.find(selected, OWNER).favourite is is_one


def test_nobody_else_does_any_of_it(tab: Any) -> None:
    selected = tab.last[tab.chosen.selected]
    for attempt in (
        lambda: tab.chosen.turn_favourite("another", selected, NOBODY),
        lambda: tab.chosen.use_detail("another", selected, "", NOBODY, click("seed")),
        lambda: tab.chosen.use_detail("another", selected, "", NOBODY, click("as:JPEG")),
    ):
        with pytest.raises(gr.Error, match="no longer there"):
            attempt()
