"""What the handlers of the History tab do for whom; test_browser_history.py sees them on the page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from app.context import open_context
from app.settings import Settings
from app.tabs.generate import GenerateTab
from app.tabs.history import HistoryTab
from pipelines.result import GenerationResult
from tests.app.engines import PacedEngine, a_request
from tests.pipelines.metadata.pictures import FOOOCUS_TEXT, png

ANN, BEN, NOBODY = "ann's secret", "ben's secret", gr.Request(username=None)


@pytest.fixture
def tab(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HistoryTab]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path))
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        with gr.Tab(id="generate"):
            generate = GenerateTab(context)
        with gr.Tab(id="history") as item:
            yield HistoryTab(context, generate, tabs, item)
    context.close()


def draw(tab: HistoryTab, browser: str, count: int = 1, job: str = "job") -> list[str]:
    result = GenerationResult(
        images=[Image.new("RGB", (32, 32))] * count,
        request=a_request(count=count),
        model_name="tiny",
        model_id="1",
        engine="paced",
        seconds=0.1,
    )
    return [path.stem for path in tab.context.library.save(result, f"browser:{browser}", job)]


def look(tab: HistoryTab, browser: str, page: int = 0, opened: str = "") -> Any:
    return tab.look(NOBODY, browser, "", False, page, opened, [])


def test_nobody_reaches_anothers_picture_by_its_name(tab: HistoryTab) -> None:
    (name,) = draw(tab, ANN)
    kept = tab.context.library.find(name, f"browser:{ANN}")
    assert kept is not None
    event = gr.EventData(None, {"id": "seed"})
    for attempt in (
        lambda: tab.use_all(NOBODY, BEN, name),
        lambda: tab.use_one(NOBODY, event, BEN, name, ""),
        lambda: tab.pack(NOBODY, BEN, name, "PNG", "x"),
        lambda: tab.pack(NOBODY, BEN, [name], "PNG", "x"),
        lambda: tab.delete_doomed(NOBODY, BEN, [name], []),
        lambda: tab.turn_favourite(NOBODY, BEN, "", False, 0, name, []),
    ):
        with pytest.raises(gr.Error, match="no longer there"):
            attempt()
    assert name not in str(look(tab, BEN, opened=name))
    assert tab.context.library.find(name, f"browser:{ANN}") == kept
    assert kept.path.is_file()


def test_after_the_last_picture_of_the_last_page_comes_the_page_before(tab: HistoryTab) -> None:
    names = draw(tab, ANN, 49)
    assert look(tab, ANN, page=1)[0] == "49 to 49 of 49"
    last = next(name for name in names if name in look(tab, ANN, page=1)[1])
    tab.delete_doomed(NOBODY, ANN, [last], [])
    seen = look(tab, ANN, page=1)
    assert (seen[0], seen[2]) == ("1 to 48 of 48", 0)
    assert look(tab, ANN, page=-3)[2] == 0


def test_ticks_of_other_pages_stay(tab: HistoryTab) -> None:
    event = gr.EventData(None, {"shown": ["a", "b"], "picked": ["b"]})
    assert tab.pick(event, ["a", "elsewhere"])[0] == ["elsewhere", "b"]


def test_one_that_cannot_be_deleted_does_not_keep_the_others(tab: HistoryTab, tmp_path: Path) -> None:
    stuck, other = draw(tab, ANN, 2)
    picture = tab.context.library.find(stuck, f"browser:{ANN}")
    assert picture is not None
    (tmp_path / "aside").mkdir()
    picture.path.rename(tmp_path / "aside" / picture.path.name)
    tab.delete_doomed(NOBODY, ANN, [stuck, other], [])
    assert list(picture.path.parent.iterdir()) == []


@pytest.mark.parametrize("named", ["tiny", "unknown", None])
def test_what_was_read_keeps_the_models_own_where_it_says_nothing(tab: HistoryTab, named: str | None) -> None:
    model = str(tab.context.models[0].path)

    def form(options: dict[str, Any]) -> list[Any]:
        shown = tab.drop.put_into_form((options, named), model)
        fields = (tab.form.prompt, tab.form.seed, tab.form.steps)
        return [shown[tab.form.model]["value"], *(shown[field] for field in fields)]

    steps = tab.context.models[0].defaults.steps
    assert form({"prompt": "a cat", "seed": 0}) == [model, "a cat", 0, steps]
    assert form({"steps": 9}) == [model, "", -1, 9]
    for nothing, words in ((None, "no settings"), (({"steps": 0}, named), "steps must be")):
        with pytest.raises(gr.Error, match=words):
            tab.drop.put_into_form(nothing, model)


def test_a_file_that_is_not_an_upload_is_left_alone(tab: HistoryTab, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png({"parameters": FOOOCUS_TEXT}))
    assert "Drawn by Fooocus" in tab.drop.look_into(str(tmp_path / "mine.png"))[1]
    assert (tmp_path / "mine.png").exists()
