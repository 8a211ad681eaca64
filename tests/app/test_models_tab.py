"""The Models tab: what it says, who may change the list, and what follows."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.context import Context, open_context
from app.settings import Settings
from app.tabs.generate import GenerateTab
from app.tabs.models import ModelsTab
from models.folder_check import check_model_folder
from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY
from tests.tiny import make_tiny_model


def visitor(host: str = "127.0.0.1", username: str | None = None, **headers: str) -> Any:
    client = SimpleNamespace(host=host)
    return gr.Request(SimpleNamespace(client=client, headers=headers), username=username)


HERE = visitor()
STRANGERS = [visitor("192.168.1.7"), visitor(username="ann"), visitor(**{"x-forwarded-for": "8.8.8.8"})]


@pytest.fixture
def open_tab(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Callable[[], ModelsTab]]:
    contexts: list[Context] = []

    def build() -> ModelsTab:
        contexts.append(open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path)))
        with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs, gr.Tab() as tab:
            return ModelsTab(contexts[-1], GenerateTab(contexts[-1]), tabs, tab)

    yield build
    for context in contexts:
        context.close()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "models" / "mine & yours", "v_prediction", seed=1)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def click(action: str, folder: Path) -> gr.EventData:
    return gr.EventData(None, {"id": f"{action}:{folder}"})


def shown(tab: ModelsTab, model: Path | None = None, request: Any = HERE) -> str:
    page: str = tab.look(None if model is None else str(model), request)[tab.list]
    return page


def test_a_folder_is_added_chosen_and_there_after_a_restart(
    open_tab: Callable[[], ModelsTab], tiny_model_folder: Path, mine: Path
) -> None:
    tab = open_tab()
    changed = tab.add_folder(f' "{mine}" ', str(tiny_model_folder), HERE)
    names = [name for name, _ in changed[tab.form.model]["choices"]]
    assert names == [tiny_model_folder.name, "mine & yours"]
    assert changed[tab.form.model]["value"] == str(tiny_model_folder)
    assert changed[tab.form.model]["visible"]
    assert changed[tab.path] == ""
    assert "<h2><span>mine &amp; yours</span></h2>" in changed[tab.list]
    # Who may draw may choose.
    chosen = tab.act(str(tiny_model_folder), visitor("10.0.0.1"), click("use", mine))
    assert chosen[tab.form.model]["value"] == str(mine)
    again = open_tab()
    assert [card.path for card in again.context.models] == [tiny_model_folder, mine]
    removed = again.act(str(mine), HERE, click("remove", mine))
    assert removed[again.form.model]["value"] == str(tiny_model_folder)
    assert not removed[again.form.model]["visible"]
    assert len(open_tab().context.models) == 1
    check_model_folder(mine)  # removed from the list, not from the disk


def test_a_visitor_from_elsewhere_neither_changes_the_list_nor_learns_of_the_disk(
    open_tab: Callable[[], ModelsTab], mine: Path, tiny_model_folder: Path, runs: Path
) -> None:
    shutil.copytree(mine, runs / "secret" / "model")
    tab = open_tab()
    tab.add_folder(str(mine), None, HERE)
    for stranger in STRANGERS:
        for path in (str(mine), str(mine / "nowhere"), "/etc/passwd", ""):
            with pytest.raises(gr.Error, match="at the machine that this page runs on"):
                tab.add_folder(path, None, stranger)
        for action, folder in (("remove", mine), ("offer", runs / "secret/model")):
            with pytest.raises(gr.Error, match="at the machine that this page runs on"):
                tab.act(None, stranger, click(action, folder))
        seen = tab.look(None, stranger)
        assert not seen[tab.adding]["visible"]
        assert "secret" not in seen[tab.list]
        assert "remove:" not in seen[tab.list]
    assert len(tab.context.models) == 2


def test_what_cannot_be_added_is_said_in_a_sentence(
    open_tab: Callable[[], ModelsTab], mine: Path, tmp_path: Path
) -> None:
    tab = open_tab()
    (mine / "unet/diffusion_pytorch_model.safetensors").unlink()
    for path, words in (
        ("  ", "Write the path"),
        (str(tmp_path / "nowhere"), "there is no model folder"),
        (str(tmp_path), "holds no model_index.json"),
        (str(mine), "holds no weights"),
        ("/\0", "is no path"),
        ("~nobody-of-this-name/models", "is no path"),
        ("x" * 5000, "is no path|there is no model folder"),
    ):
        with pytest.raises(gr.Error, match=words):
            tab.add_folder(path, None, HERE)
    for action in ("use", "offer", "nonsense"):
        if action == "use":
            with pytest.raises(gr.Error, match="no longer on the list"):
                tab.act(None, HERE, click(action, tmp_path))
        else:
            tab.act(None, HERE, click(action, tmp_path))
    assert len(tab.context.models) == 1


def test_models_of_runs_are_found_offered_and_named_after_them(
    open_tab: Callable[[], ModelsTab], mine: Path, runs: Path
) -> None:
    for name in ("first", "second"):
        shutil.copytree(mine, runs / name / "model")
        (runs / name / "config.toml").write_text('[data]\npath = "/pictures"\n')
    (runs / "first" / "finished.json").write_text("{}")
    (runs / "third" / "model").mkdir(parents=True)  # of a run that has exported nothing yet
    tab = open_tab()
    page = shown(tab)
    assert "first <small>finished" in page
    assert "second <small>not finished" in page
    assert "third" not in page
    tab.act(None, HERE, click("offer", runs / "first/model"))
    assert "first <small>" not in shown(tab)
    assert tab.context.models[1].name == "first"
    tab.add_folder(str(runs / "second"), None, HERE)  # the folder of a run stands for its model
    assert tab.context.models[2].path == runs / "second/model"
    assert "<dd>/pictures</dd>" in shown(tab)


def test_a_folder_that_changed_vanished_or_broke_is_said_so(
    open_tab: Callable[[], ModelsTab], mine: Path, tiny_model_folder: Path
) -> None:
    tab = open_tab()
    tab.add_folder(str(mine), None, HERE)
    assert "Its files changed" not in shown(tab)
    defaults = mine / "generation_defaults.json"
    defaults.write_text(json.dumps(json.loads(defaults.read_text()) | {"steps": 9}))
    assert "Its files changed at" in shown(tab)
    assert tab.context.model(mine).defaults.steps == 9
    aside = mine.rename(mine.with_name("aside"))
    page = shown(tab, mine)
    assert "It is no longer there" in page
    assert 'aria-current="true"><h2><span>' + tiny_model_folder.name in page
    assert tab.form.offer_again(str(mine))["value"] == str(tiny_model_folder)
    assert [card.path for card in open_tab().context.models] == [tiny_model_folder]
    aside.rename(mine)  # it was not forgotten
    assert "no longer there" not in shown(tab)
    assert tab.context.model(mine).path == mine
    (mine / "model_index.json").write_text("{")
    assert "model_index.json is damaged" in shown(tab)


def test_two_models_of_one_name_can_be_told_apart(
    open_tab: Callable[[], ModelsTab], tiny_model_folder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_model_folder, tmp_path / "elsewhere" / tiny_model_folder.name)
    tab = open_tab()
    tab.add_folder(str(other), None, HERE)
    assert [card.name for card in tab.context.models] == [tiny_model_folder.name, str(other)]
    assert tab.context.model(str(other)).path == other


def test_a_page_that_opens_later_offers_what_was_added(open_tab: Callable[[], ModelsTab], mine: Path) -> None:
    tab = open_tab()
    tab.context.models.add(mine)
    with gr.Blocks(analytics_enabled=False):
        generate = GenerateTab(tab.context)
    restored = generate.restore(BROWSER, NOBODY)[generate.form.model]
    assert [value for _, value in restored["choices"]][-1] == str(mine)
