"""What the Train tab does for whom: handlers as the page calls them, for visitors here and elsewhere."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from app import dataset
from app.context import open_context
from app.dataset import dataset_view, folder_named, look_into
from app.estimates import step_seconds
from app.settings import Settings
from app.tabs.generate import GenerateTab
from app.tabs.train import TrainTab
from app.tabs.train_form import FINE_TUNING_RATE, presets
from app.trainings import OUTPUT, trainings
from app.visitors import sits_here
from models.errors import RequestError, StudioError
from tests.app.engines import PacedEngine
from tests.training.training_data import picture


def visitor(host: str = "127.0.0.1", user: str | None = None, **headers: str) -> gr.Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return gr.Request(request=Request({"type": "http", "client": (host, 5), "headers": pairs}), username=user)


NOBODY = 65534
HERE = visitor()
STRANGERS = [
    visitor("192.0.2.7"),
    visitor(user="ann"),  # through a share link she comes from this machine's address, too
    visitor(x_forwarded_for="192.0.2.7"),
    visitor(forwarded="for=192.0.2.7"),
    visitor(via="1.1 proxy"),
]
ORDER = {
    "folder": "", "stage": "diffusion", "begin": "", "preset": "tiny-diffusion", "side": 32,
    "autoencoder": "", "budget": 5, "unit": "steps", "name": "", "more": "",
}  # fmt: skip


@pytest.fixture
def tab(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainTab]:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path / "out"))
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        generate = GenerateTab(context)
        with gr.Tab("Train") as train:
            made = TrainTab(context, generate, tabs, train)
    yield made
    context.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "my pictures"
    picture(folder / "a <b>red<b> square.png")
    picture(folder / "train" / "a blue one.png", size=(60, 30), colour="blue")
    (folder / "broken <i>.png").write_text("no picture")
    picture(folder / "small.png", size=(8, 8))
    return folder


def order(tab: TrainTab, **changes: Any) -> Any:
    return tab.form.read(*{**ORDER, **changes}.values())


@pytest.mark.parametrize("request_", STRANGERS)
def test_nobody_elsewhere_reads_the_disk_or_trains(
    tab: TrainTab, pictures: Path, request_: gr.Request
) -> None:
    assert sits_here(HERE)
    assert not sits_here(request_)
    assert not sits_here(None)
    values = {**ORDER, "folder": str(pictures)}.values()
    for ask in (
        lambda: next(tab.look(str(pictures), request_)),
        lambda: next(tab.estimate(request_, *values)),
        lambda: next(tab.start(request_, *values)),
        lambda: tab.show("", "", "log", {}, request_),
        lambda: tab.ask_to_pause("one", request_),
        lambda: tab.ask_to_stop("one", request_),
        lambda: tab.go_on("one", request_),
        lambda: tab.offer("one", request_),
        lambda: tab.use_autoencoder("one", request_),
        lambda: tab.choose_stage("diffusion", request_),
        lambda: tab.choose_begin("diffusion", "/etc", "tiny-diffusion", request_),
    ):
        with pytest.raises(gr.Error, match="sits at it"):
            ask()
    elsewhere, everything, *_ = tab.open("diffusion", "", "", "log", {}, request_)
    assert (elsewhere["visible"], everything["visible"]) == (True, False)
    assert trainings() == []
    timer, *rest = tab.tick("seen", "", "", "log", {}, request_)
    assert timer.active is False
    assert len(rest) == len(tab._shown)


def test_a_page_tells_strangers_of_no_training_in_its_own_text(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page is made of goes to everyone who may open it, whatever its handlers refuse."""
    run = tmp_path / "runs" / "2026-secret"
    (run / "model" / "vae").mkdir(parents=True)
    for file in ("config.toml", "model/vae/config.json", "model/model_index.json"):
        (run / file).write_text("{}" if file.endswith("json") else "[model]")
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path / "out"))
    with gr.Blocks(analytics_enabled=False) as page, gr.Tabs() as tabs:
        generate = GenerateTab(context)
        with gr.Tab("Train") as train:
            tab = TrainTab(context, generate, tabs, train)
    assert "2026-secret" in str(tab.form.begins("diffusion"))
    assert "2026-secret" not in str(page.get_config_file())
    context.close()


def test_the_sheet_of_a_folder_tells_what_data_check_tells(tab: TrainTab, pictures: Path) -> None:
    *_, (told, view) = tab.look(f" {pictures} ", HERE)
    assert told == ""
    assert "<b>2</b> pictures will be used, with 2 captions; 2 files are skipped" in view
    assert "train: 1" in view
    assert "60\N{MULTIPLICATION SIGN}30" in view
    assert view.count("data:image/webp") == 2
    assert "broken &lt;i&gt;.png</b>:" in view
    assert "small.png" in view
    assert "<b>red" not in view


@pytest.mark.parametrize(
    "typed",
    ["", " ", "/etc/passwd", "nowhere", "a\0b", "x" * 5000, "~nobody-here/x", "https://example.org/a.tar"],
)
def test_what_is_no_folder_here_is_refused_in_a_sentence(tab: TrainTab, typed: str) -> None:
    with pytest.raises(RequestError, match="folder"):
        folder_named(typed)
    with pytest.raises(gr.Error, match="folder"):
        list(tab.look(typed, HERE))
    with pytest.raises(gr.Error, match="folder"):
        list(tab.start(HERE, *{**ORDER, "folder": typed}.values()))
    assert trainings() == []


def test_a_folder_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as shut:
        os.chmod(shut, 0)
        if (user := os.geteuid()) == 0:  # who may read everything
            os.setresuid(NOBODY, NOBODY, user)
        try:
            with pytest.raises(RequestError, match="can be read"):
                folder_named(shut)
        finally:
            if user == 0:
                os.setresuid(user, user, user)
            os.chmod(shut, 0o700)


def test_a_folder_without_pictures_says_why_and_a_huge_one_is_not_walked(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.png").write_text("words")
    with pytest.raises(RequestError, match=r"no usable picture.*notes\.png"):
        look_into(tmp_path / "empty")
    monkeypatch.setattr(dataset, "MAX_FILES", 3)
    with pytest.raises(RequestError, match="more than 3 files"):
        look_into(pictures)


def test_a_link_that_leads_back_to_its_folder_is_no_endless_one(pictures: Path) -> None:
    (pictures / "again").symlink_to(pictures)
    assert look_into(pictures).count >= 2


def test_many_pictures_are_spread_over_one_sheet(tmp_path: Path) -> None:
    for number in range(60):
        picture(tmp_path / f"{number:02}.png", size=(16, 16))
    found = look_into(tmp_path)
    assert (found.count, len(found.shown)) == (60, 30)
    assert [one.caption for one in found.shown[:3]] == ["00", "02", "04"]
    assert "30 of them" in dataset_view(found)


def test_the_words_of_the_command_line_are_what_the_form_says(tab: TrainTab, pictures: Path) -> None:
    model = str(tab.context.models[0].path)
    asked = order(tab, folder=str(pictures), begin=model, name="cats", more="ema.power=0.5\n\n")
    stage, option, preset, *settings = asked.arguments
    assert (stage, option, preset) == ("diffusion", "--config", "tiny-diffusion")
    assert all(word.startswith("--set=") for word in settings)
    values = dict(word.removeprefix("--set=").split("=", 1) for word in settings)
    assert values["data.path"] == str(pictures)
    assert values["init.model"] == model
    assert values["optimizer.learning_rate"] == str(FINE_TUNING_RATE)
    assert values["training.steps"] == "5"
    assert int(values["training.sample_every_steps"]) <= 5
    assert list(values)[-1] == "ema.power"  # what is written out has the last word
    assert asked.name == "cats"
    assert order(tab, folder=str(pictures)).name == "my-pictures"


def test_a_budget_counts_steps_pictures_or_minutes(tab: TrainTab, pictures: Path) -> None:
    folder = str(pictures)
    assert order(tab, folder=folder, budget=7, unit="steps").steps == 7
    assert order(tab, folder=folder, budget=17, unit="pictures").steps == 2  # of 16
    by_time = order(tab, folder=folder, budget=2, unit="minutes")
    assert by_time.measured(step_seconds("x; 0.5 s a step\n")).steps == 240
    for wrong in (0, -1, None, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="above zero"):
            order(tab, folder=folder, budget=wrong)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": "../x"}, "presets"),
        ({"preset": "../../etc/passwd"}, "presets"),
        ({"preset": "tiny-autoencoder"}, "presets"),
        ({"begin": "/etc"}, "choose another"),
        ({"autoencoder": "/etc"}, "choose another"),
        ({"stage": "distill", "preset": "tiny-distill"}, "teacher"),
        ({"more": "--run=/tmp/x"}, "section.key=value"),
        ({"more": "training.stepz=3"}, "did you mean training.steps"),
        ({"more": "training.batch_size=0"}, "batch_size"),
        ({"name": "../../x"}, "name of a training"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_begins(
    tab: TrainTab, pictures: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(gr.Error, match=said):
        list(tab.start(HERE, *{**ORDER, "folder": str(pictures), **changes}.values()))
    assert not list(tmp_path.rglob(OUTPUT))


@pytest.mark.parametrize("name", ["", "..", "../out", "/etc", None])
def test_no_name_reaches_another_folder(tab: TrainTab, name: Any) -> None:
    for handler in (tab.ask_to_pause, tab.ask_to_stop, tab.go_on, tab.offer, tab.use_autoencoder):
        with pytest.raises(gr.Error, match="no longer there"):
            handler(name, HERE)


def test_only_news_are_sent(tab: TrainTab, tmp_path: Path) -> None:
    seen, *first = tab.show(None, None, "log", {}, HERE)
    assert not any(part == gr.skip() for part in first)
    again, *nothing = tab.show(None, None, "log", seen, HERE)
    assert again == gr.skip()
    assert all(part == gr.skip() for part in nothing)
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("[model]\n[training]\nname = '<b>'\nsteps = 4\nbatch_size = 2\n")
    (run / "metrics.jsonl").write_text('{"step": 2, "loss": 0.5}\n{"step": 3, "loss": 0.4}\n')
    news = dict(zip(seen, tab.show(None, None, "log", seen, HERE)[1:], strict=True))
    assert news["run"]["value"] == "one"
    assert "Step 3 of 4" in news["card"]
    assert "polyline" in news["plots"]
    assert news["resume"]["visible"]
    assert news["samples"] == gr.skip()


def test_a_tab_that_nobody_sees_costs_nothing(tab: TrainTab) -> None:
    timer, *parts = tab.tick("hidden", None, None, "log", {}, HERE)
    assert timer == gr.skip()  # it goes on when the window is seen again
    assert all(part == gr.skip() for part in parts)
    timer, *parts = tab.tick("left", None, None, "log", {}, HERE)
    assert timer.active is False
    assert all(part == gr.skip() for part in parts)
    timer, *parts = tab.tick("seen", None, None, "log", {}, HERE)
    assert timer == gr.skip()
    assert not any(part == gr.skip() for part in parts)


def test_two_trainings_stand_side_by_side_with_what_differs(tab: TrainTab, tmp_path: Path) -> None:
    for name, rate in (("one", 1), ("two", 2)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.toml").write_text(f"[model]\nkind = '<i>'\n[optimizer]\nlearning_rate = {rate}\n")
        (run / "metrics.jsonl").write_text('{"step": 2, "loss": 0.5, "held_out_psnr_db": 20}\n')
        picture(run / "samples" / "step-0000002.png")
    seen, *_ = tab.show("one", "", "log", {}, HERE)
    parts = dict(zip(seen, tab.show("one", "two", "log", {}, HERE)[1:], strict=True))
    assert parts["plots"].count("<polyline") == 4
    assert parts["card"].count("ls-training-name") == 2
    assert parts["differences"].count("<tr>") == 2  # the heads, and the one setting
    assert "optimizer.learning_rate" in parts["differences"]
    assert parts["samples"].count("<figure>") == 2
    assert parts["samples"].index("one, step 2") < parts["samples"].index("two, step 2")
    same = dict(zip(seen, tab.show("one", "one", "log", {}, HERE)[1:], strict=True))
    assert same["differences"] == ""


@pytest.mark.parametrize("stage", ["diffusion", "autoencoder", "distill"])
def test_every_stage_begins_with_the_starters_preset(tab: TrainTab, stage: str) -> None:
    begin, preset, side, _ = tab.choose_stage(stage, HERE)
    assert preset["value"] == presets(stage)[0]
    assert begin["value"] in [path for _, path in begin["choices"]]
    assert side == (32 if stage != "autoencoder" else 128)  # the tiny model's, or the preset's
    with pytest.raises(StudioError):
        tab.form.choose_stage("nothing")


def test_a_new_model_without_an_autoencoder_is_refused_at_the_form(
    tab: TrainTab, pictures: Path, tiny_model_folder: Path
) -> None:
    def asked(**changes: str) -> None:
        next(tab.start(HERE, *{**ORDER, "folder": str(pictures), **changes}.values()))

    with pytest.raises(gr.Error, match="tiny-diffusion needs an autoencoder"):
        asked()
    _, autoencoder = tab.choose_begin("diffusion", "", "tiny-diffusion", HERE)
    assert "tiny-diffusion needs an autoencoder" in autoencoder["info"]
    for named in (
        {"more": "model.autoencoder=pixels"},
        {"autoencoder": str(tiny_model_folder)},
        {"begin": str(tiny_model_folder)},
    ):
        assert not order(tab, folder=str(pictures), **named).lacks_autoencoder
    _, autoencoder = tab.choose_begin("diffusion", str(tiny_model_folder), "tiny-diffusion", HERE)
    assert autoencoder["info"] == ""
