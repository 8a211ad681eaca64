import json
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.cards import CUSTOM, read_card
from app.context import open_context
from app.settings import Settings
from app.tabs.form import Form
from app.tabs.generate import GenerateTab
from models.errors import RequestError
from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, submit, values
from tests.tiny import make_tiny_model


def test_width_and_height_change_places(open_tab: OpenTab) -> None:
    form = open_tab().form
    for asked in (("48x32", None, None), (CUSTOM, 48, 32)):
        size, shown, width, height = form.swapped(*asked)
        assert (size, shown["visible"], width, height) == (CUSTOM, True, 32, 48)


def test_settings_of_a_picture_come_back_into_the_form(open_tab: OpenTab) -> None:
    tab = open_tab()
    submit(
        tab, sampler="DPM++ 2M", schedule="Karras", negative_prompt="blue", size=CUSTOM, width=40, height=48
    )
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    shown = tab.chosen.reuse_settings(BROWSER, last[tab.chosen.selected], NOBODY)
    named = {name: shown[control] for name, control in tab.form.fields.items()}
    plain = {name: value["value"] if isinstance(value, dict) else value for name, value in named.items()}
    assert plain.items() >= {
        "prompt": "a red apple", "negative_prompt": "blue", "size": CUSTOM, "width": 40, "height": 48,
        "count": 1, "steps": 3, "guidance_scale": 2.0, "sampler": "DPM++ 2M", "schedule": "Karras", "seed": 7,
        "instant": False,
    }.items()  # fmt: skip
    assert named["instant"]["visible"] is False
    assert shown[tab.form.custom_size]["visible"] is True
    again, _ = tab.form.read(plain)
    assert again == tab.context.jobs.latest(OWNER).request  # type: ignore[union-attr]


def test_lcm_is_offered_for_distilled_models_alone(
    open_tab: OpenTab, tiny_model_folder: Path, tmp_path: Path
) -> None:
    distilled = shutil.copytree(tiny_model_folder, tmp_path / "distilled")
    scheduler = distilled / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"_class_name": "LCMScheduler"}))
    context = open_context([distilled, tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path))
    with gr.Blocks(analytics_enabled=False):
        form = GenerateTab(context).form
    assert [card.distilled for card in context.models] == [True, False]
    assert ("LCM", "LCM") in form.sampler.choices
    for card in context.models:
        (update,) = [
            update
            for update in form.choose_model(str(card.path)).values()
            if ("DDIM", "DDIM") in choices(update)
        ]
        assert (("LCM", "LCM") in choices(update)) is card.distilled
    request, card = form.read(values(form.fields, sampler="LCM"))
    assert form.show(request, card.path)[form.sampler]["value"] == "LCM"
    assert form.show(request, tiny_model_folder)[form.sampler]["value"] == "Euler"
    context.close()


def test_the_instant_switch_is_there_for_models_with_a_student_and_sets_what_it_needs(
    tiny_model_folder: Path, taught_model_folder: Path, tmp_path: Path
) -> None:
    folders = [tiny_model_folder, taught_model_folder]
    context = open_context(folders, PacedEngine, settings=Settings(outputs=tmp_path))
    with gr.Blocks(analytics_enabled=False):
        tab = GenerateTab(context)
    form, taught = tab.form, str(taught_model_folder)
    try:
        assert form.instant.visible is False  # the first model has none
        for folder in folders:
            switch = form.choose_model(str(folder))[form.instant]
            assert (switch["value"], switch["visible"]) == (False, folder is taught_model_folder)
        switched = form.choose_instant(taught, True)
        assert (switched[form.sampler]["value"], switched[form.schedule]["value"]) == ("Euler", "Automatic")
        asked = {"steps": switched[form.steps], "guidance_scale": switched[form.fields["guidance_scale"]]}
        assert asked == {"steps": 2, "guidance_scale": 1.0}
        back = form.choose_instant(taught, False)
        assert (back[form.steps], back[form.fields["guidance_scale"]]) == (4, 2.0)
        asked |= {"model": taught, "instant": True}
        request, _ = form.read(values(form.fields, **asked))
        assert (request.instant, request.steps) == (True, 2)
        assert form.show(request, taught)[form.instant] == gr.update(value=True, visible=True)
        assert form.show(request, tiny_model_folder)[form.instant] == gr.update(value=False, visible=False)
        with pytest.raises(gr.Error, match="no student"):
            submit(tab, model=str(tiny_model_folder), instant=True)
        submit(tab, **asked)
        *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
        assert "2, instant" in last[tab.chosen.details]
    finally:
        context.close()


def choices(update: Any) -> Any:
    return update.get("choices", []) if isinstance(update, dict) else []


def test_schedules_follow_the_sampler(open_tab: OpenTab) -> None:
    form = open_tab().form
    assert form.schedules("DDIM")["choices"] == [("Automatic", "Automatic")]
    assert ("Karras", "Karras") in form.schedules("DPM++ 2M")["choices"]


def test_the_form_reads_what_it_shows_for_every_sampler(open_tab: OpenTab) -> None:
    form: Form = open_tab().form
    for sampler in ("Euler a", "UniPC", "PLMS"):
        request, card = form.read(values(form.fields, sampler=sampler))
        assert request.sampler == sampler
        shown = form.show(request, card.path)
        assert shown[form.sampler]["value"] == sampler
    with pytest.raises(RequestError):
        form.read(values(form.fields, prompt="\ud800"))


@pytest.mark.parametrize("classes", [["cat", "dog"], []])
def test_a_model_of_classes_offers_them_and_needs_no_prompt(tmp_path: Path, classes: list[str]) -> None:
    folder = make_tiny_model(tmp_path / "classes", classes=classes)
    assert read_card(folder).examples == tuple(classes)
    context = open_context([folder], PacedEngine, settings=Settings(outputs=tmp_path))
    try:
        with gr.Blocks(analytics_enabled=False):
            form = GenerateTab(context).form
        request, _ = form.read(values(form.fields, prompt=" ", size=form.size.value))
    finally:
        context.close()
    assert request.prompt == ""


def test_the_finer_settings_are_read_and_shown_by_their_names(open_tab: OpenTab) -> None:
    form = open_tab().form
    finer = {
        "guidance_start": 0.2, "guidance_end": 0.7, "noise": "nv", "batch_size": 2, "variation_seed": 5,
        "variation_strength": 0.25,
    }  # fmt: skip
    request, card = form.read(values(form.fields, **finer))
    assert {name: getattr(request, name) for name in finer} == finer
    shown = form.show(request, card.path)
    assert {name: shown[form.fields[name]] for name in finer} == finer
    plain, _ = form.read(values(form.fields, variation_seed=5))
    assert (plain.batch_size, plain.variation_seed) == (None, None)
    shown = form.show(plain, card.path)
    assert (shown[form.fields["batch_size"]], shown[form.fields["variation_seed"]]) == (0, -1)


def test_one_setting_of_a_picture_changes_that_one_alone(open_tab: OpenTab) -> None:
    form = open_tab().form
    request, card = form.read(values(form.fields, size=CUSTOM, width=40, height=48, guidance_start=0.5))
    model = str(card.path)
    for setting, controls in (
        ("seed", {form.seed}),
        ("prompt", {form.prompt}),
        ("size", {form.size, form.fields["width"], form.fields["height"], form.custom_size}),
        ("interval", {form.fields["guidance_start"], form.fields["guidance_end"]}),
        ("drawn", set()),
    ):
        assert set(form.show_one(setting, request, model, model)) == controls
    assert form.show_one("seed", request, model, model)[form.seed] == request.seed
