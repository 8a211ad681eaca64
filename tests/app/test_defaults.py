"""Defaults of one's own: for each person and model, through a restart, and back."""

from typing import Any

import pytest

from app.tabs.generate import GenerateTab
from tests.app.forms import BROWSER, NOBODY, OpenTab, values


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradio.Info", lambda *words, **options: None)  # it needs a request of a browser


def keep(tab: GenerateTab, browser: str = BROWSER, **changes: Any) -> None:
    tab.defaults.keep(browser, NOBODY, *values(tab.form.fields, **changes).values())


def test_a_page_and_a_model_begin_with_them_also_after_a_restart(open_tab: OpenTab) -> None:
    keep(open_tab(), prompt="a cat", steps=9, negative_prompt="blue", guidance_start=0.5, count=2)
    tab = open_tab()
    form, model = tab.form, str(tab.context.models[0].path)
    for shown in (tab.restore(BROWSER, NOBODY), tab.defaults.choose(BROWSER, model, NOBODY)):
        begun = [shown[form.fields[name]] for name in ("steps", "negative_prompt", "guidance_start", "count")]
        assert begun == [9, "blue", 0.5, 2]
        assert form.prompt not in shown
        assert form.seed not in shown
    for shown in (tab.restore("another", NOBODY), tab.defaults.choose("another", model, NOBODY)):
        assert shown.get(form.steps, 4) == 4


def test_back_to_the_models_own(open_tab: OpenTab) -> None:
    tab = open_tab()
    model = str(tab.context.models[0].path)
    keep(tab, steps=9)
    assert tab.defaults.go_back(BROWSER, model, NOBODY)[tab.form.steps] == 4
    assert tab.defaults.choose(BROWSER, model, NOBODY)[tab.form.steps] == 4


def test_they_need_no_prompt_but_must_make_sense(open_tab: OpenTab) -> None:
    import gradio as gr

    tab = open_tab()
    keep(tab, prompt="", steps=8)
    with pytest.raises(gr.Error, match="must be below"):
        keep(tab, guidance_start=0.5, guidance_end=0.5)
    model = str(tab.context.models[0].path)
    assert tab.defaults.choose(BROWSER, model, NOBODY)[tab.form.steps] == 8
