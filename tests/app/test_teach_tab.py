"""What teaching and the picker of LoRAs do, as the page calls their handlers."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch

from app.context import open_context
from app.settings import Settings
from app.tabs.generate import GenerateTab
from app.tabs.teach import TeachForm
from app.trainings import State, Training, find, resume, trainings
from models.folder import load_model, model_id
from models.lora import read_lora_file
from models.weights import LORA_FILE
from pipelines.prompt.lora import put_lora, take_loras
from tests.app.engines import PacedEngine
from tests.app.test_train_tab import HERE, STRANGERS
from tests.training.test_lora import ATTENTION, trained
from tests.training.training_data import picture
from training.lora import save_lora
from training.process import process_of

LOADS_AND_TRAINS_SECONDS = 240
METRICS = "metrics.jsonl"


@pytest.fixture
def form(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeachForm]:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("LATENT_STUDIO_LORAS", raising=False)
    context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path / "out"))
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        made = TeachForm(context, GenerateTab(context), tabs)
    yield made
    context.close()


def a_lora(form: TeachForm, model: Path, name: str, base: str) -> None:
    torch.manual_seed(0)
    lora = trained(load_model(model).denoiser.unet, 2, 2, ATTENTION)
    about = {"base_model_id": base, "trigger_captions": '["a <b>zorp"]'}
    folder = form.context.settings.outputs
    save_lora(folder, {"unet": (lora, lora.adapter)}, about)
    (folder / "loras").mkdir(exist_ok=True)
    shutil.move(folder / LORA_FILE, folder / "loras" / f"{name}.safetensors")


def test_the_picker_offers_what_fits_and_writes_the_tag(form: TeachForm, tiny_model_folder: Path) -> None:
    picker, model = form.generate.loras, str(tiny_model_folder)
    assert picker.refresh(model)[0]["visible"] is False
    own = model_id(tiny_model_folder)
    for name, base in (("zorp", own), ("anything", ""), ("other", "0123456789")):
        a_lora(form, tiny_model_folder, name, base)
    row, names = picker.refresh(model)
    assert row["visible"] is True
    assert [value for _, value in names["choices"]] == ["", "anything", "zorp"]
    prompt, told = picker.choose("a zorp on red", "zorp", 0.8)
    assert prompt == "a zorp on red <lora:zorp:0.8>"
    assert "a &lt;b&gt;zorp" in told
    assert picker.weigh(prompt, "zorp", 1.25) == "a zorp on red <lora:zorp:1.25>"
    (form.context.settings.outputs / "loras" / "zorp.safetensors").write_bytes(b"")
    assert [value for _, value in picker.refresh(model)[1]["choices"]] == ["", "anything"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "<lora:a:1>"),
        ("a dog ", "a dog <lora:a:1>"),
        ("<lora:a:.5>a<lora: a >", "<lora:a:1>a"),
        ("<lora:b:1>x", "<lora:b:1>x <lora:a:1>"),
    ],
)
def test_a_tag_is_put_once(before: str, after: str) -> None:
    assert put_lora(before, "a", 1) == after
    assert [tag.name for tag in take_loras(put_lora(after, "a", 2))[1]].count("a") == 1


def test_what_cannot_be_taught_is_told_and_nothing_begins(form: TeachForm, tmp_path: Path) -> None:
    file, model = str(picture(tmp_path / "a.png")), form.generate.form.model.value
    (tmp_path / "b.png").write_text("no picture")
    for files, name, words in (
        (None, "zorp", "1 to 20"),
        ([file] * 21, "zorp", "1 to 20"),
        ([file], "", "name"),
        ([file], "<b>", "name"),
        ([str(tmp_path / "b.png")], "zorp", "cannot be used"),
    ):
        with pytest.raises(gr.Error, match=words):
            form.start(files, name, 1, model, HERE)
    assert trainings() == []


@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_elsewhere_teaches(form: TeachForm, tmp_path: Path, stranger: gr.Request) -> None:
    file = str(picture(tmp_path / "a.png"))
    for ask in (
        lambda: form.start([file], "zorp", 1, form.generate.form.model.value, stranger),
        lambda: form.show("", stranger),
        lambda: form.ask_to_stop("", stranger),
        lambda: form.put("", "", stranger),
    ):
        with pytest.raises(gr.Error):
            ask()
    assert trainings() == []


def wait_for(name: str, *states: State) -> Training:
    begun = time.monotonic()
    while (training := find(name)) is None or training.state not in states:
        assert time.monotonic() - begun < LOADS_AND_TRAINS_SECONDS
        time.sleep(0.5)
    return training


def wait_for_steps(name: str, logged: bytes) -> Training:
    """Until more is logged than this."""
    training = wait_for(name, State.RUNNING, State.FAILED)
    metrics = training.folder / METRICS
    while (metrics.read_bytes() if metrics.is_file() else b"") == logged:
        training = wait_for(name, State.RUNNING, State.FAILED)
        assert training.state is State.RUNNING, training.message
        time.sleep(0.2)
    return training


@pytest.mark.slow
def test_a_thing_is_taught_by_a_process_of_its_own_and_comes_into_the_prompt(
    form: TeachForm, tmp_path: Path, tiny_model_folder: Path
) -> None:
    file = str(picture(tmp_path / "a.png"))
    name = form.start([file], "my zorp", 0, form.generate.form.model.value, HERE)
    training = wait_for(name, State.FINISHED, State.FAILED)
    assert training.state is State.FINISHED, training.message
    timer, card, preview, stop, use = form.show(name, HERE)
    assert timer.active is False
    assert 'data-state="finished"' in card
    assert "<img" in preview
    assert (stop["visible"], use["visible"]) == (False, True)
    assert form.put(name, "on red", HERE) == "on red, my zorp <lora:my zorp:0.7>"
    written = read_lora_file(form.context.settings.outputs / "loras" / "my zorp.safetensors")
    assert written.base == model_id(tiny_model_folder)


@pytest.mark.slow
def test_a_teaching_that_was_stopped_goes_on_as_one(form: TeachForm, tmp_path: Path) -> None:
    name = form.start([str(picture(tmp_path / "a.png"))], "zorp", 30, form.generate.form.model.value, HERE)
    config = wait_for_steps(name, b"").config
    form.ask_to_stop(name, HERE)
    stopped = wait_for(name, State.STOPPED, State.FAILED)
    lora = form.context.settings.outputs / "loras" / "zorp.safetensors"
    assert lora.is_file()  # what it had learned by then
    lora.unlink()
    logged = (stopped.folder / METRICS).read_bytes()
    resume(stopped)
    process = process_of(stopped.folder)
    assert process is not None
    assert "teach" in process.cmdline()
    assert wait_for_steps(name, logged).config == config
    form.ask_to_stop(name, HERE)
    assert wait_for(name, State.STOPPED, State.FAILED).state is State.STOPPED
    assert lora.is_file()
