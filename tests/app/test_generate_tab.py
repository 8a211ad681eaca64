import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.cards import CUSTOM, ModelCard, read_card
from app.context import Context, open_context
from app.page import build_page
from app.settings import Settings
from app.tabs.form import RANDOM_SEED, Form
from app.tabs.generate import GenerateTab, owner_of
from models.errors import ModelError, RequestError
from pipelines.engine import LocalEngine
from tests.app.engines import PacedEngine
from tests.tiny import make_tiny_model

BROWSER = "a-secret-of-this-browser"
NOBODY = gr.Request(username=None)
BROWSER_OWNER = owner_of(NOBODY, BROWSER)
FORM = {
    "model": "", "prompt": "a red apple", "negative": "", "size": "32x32", "width": 32, "height": 32,
    "count": 1, "steps": 3, "guidance": 2.0, "sampler": "Euler", "schedule": "Automatic", "seed": 7,
    "instant": False, "styles": [],
}  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Callable[..., GenerateTab]]:
    contexts: list[Context] = []

    def open_tab(open_engine: Callable[[Path], Any] = PacedEngine, models: int = 1) -> GenerateTab:
        folders = [tiny_model_folder] * models
        contexts.append(open_context(folders, open_engine, settings=Settings(outputs=tmp_path)))
        with gr.Blocks(analytics_enabled=False):
            return GenerateTab(contexts[-1])

    yield open_tab
    for context in contexts:
        context.close()


def submit(tab: GenerateTab, browser: str = BROWSER, **changes: object) -> Any:
    return tab.submit(browser, NOBODY, *{**FORM, **changes}.values())


def click(picture: str) -> gr.EventData:
    return gr.EventData(None, {"id": picture})


def test_a_prompt_becomes_a_picture_with_its_settings(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    submit(tab, prompt="  a <b>red</b> apple ", count=2)
    *_, last = tab.follow(BROWSER, NOBODY)
    stage, chosen, details, strip, selected, status, stop, _, _ = last
    assert 'data-state="done"' in stage
    assert len(re.findall("<img", stage)) == len(re.findall("<img", strip)) == 2
    assert "a &lt;b&gt;red&lt;/b&gt; apple" in details
    assert "<b>red" not in stage + details + strip + status
    assert selected.endswith("-7")
    assert (chosen["visible"], stop["interactive"]) == (True, False)


def test_wrong_requests_are_answered_at_once_and_nothing_is_queued(
    opened: Callable[..., GenerateTab],
) -> None:
    tab = opened()
    for changes, words in (
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"size": CUSTOM, "width": 33}, "multiple of"),
        ({"size": CUSTOM, "width": None}, "whole numbers"),
        ({"size": CUSTOM, "height": 1e300}, "height must be"),
        ({"size": "axb"}, "whole numbers"),
        ({"steps": 0}, "steps must be"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"guidance": float("nan")}, "NaN"),
        ({"sampler": "Oiler"}, "Euler"),
        ({"sampler": "DDIM", "schedule": "Karras"}, "does not take"),
        ({"seed": -2}, "seed must be"),
        ({"count": 1000}, "count must be"),
    ):
        with pytest.raises(gr.Error, match=words):
            submit(tab, **changes)
    assert tab.context.jobs.active(owner_of(None, BROWSER)) == []
    assert tab.context.jobs.rows.newest(owner_of(None, BROWSER)) == []


def test_a_page_without_any_model_says_what_is_missing(opened: Callable[..., GenerateTab]) -> None:
    tab = opened(models=0)
    with pytest.raises(gr.Error, match="There is no model"):
        submit(tab)


def test_seeds_are_random_unless_given(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    seeds = []
    for seed in (-1, None, 0):
        submit(tab, seed=seed)
        *_, _ = tab.follow(BROWSER, NOBODY)
        seeds.append(tab.last_seed(BROWSER, NOBODY))
    assert seeds[2] == 0
    assert len(set(seeds)) == 3


def test_a_reloaded_page_finds_its_running_job(opened: Callable[..., GenerateTab]) -> None:
    gate = threading.Semaphore(0)
    tab = opened(lambda folder: PacedEngine(folder, gate))
    submit(tab, prompt="a green frog", steps=5)
    gate.release(2)
    leaving = tab.follow(BROWSER, NOBODY)
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    *_, stop, _, _ = tab.restore(BROWSER, NOBODY)[:10]
    form = tab.restore(BROWSER, NOBODY)[10:]
    assert "a green frog" in form
    assert stop["interactive"] is True
    viewer = tab.reattach(BROWSER, NOBODY)
    assert 'role="progressbar"' in next(viewer)[0]
    gate.release(10)
    assert any('data-state="done"' in str(update[0]) for update in viewer)
    assert 'data-state="done"' in tab.restore(BROWSER, NOBODY)[1]


def test_a_new_browser_gets_a_secret_and_sees_nothing_of_others(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    submit(tab)
    *_, last = tab.follow(BROWSER, NOBODY)
    picture = last[4]
    fresh, stage, *_ = tab.restore("", NOBODY)
    assert len(fresh) >= 24
    assert fresh != tab.restore("", NOBODY)[0]
    assert 'data-state="empty"' in stage
    with pytest.raises(gr.Error, match="no longer there"):
        tab.select(fresh, NOBODY, click(picture))
    with pytest.raises(gr.Error, match="no longer there"):
        tab.reuse_settings(fresh, picture, NOBODY)
    assert tab.select(BROWSER, NOBODY, click(picture))[4] == picture


def test_people_are_told_apart_by_login_before_browser() -> None:
    ann = gr.Request(username="ann")
    assert owner_of(ann, "one") == owner_of(ann, "two") == "user:ann"
    assert owner_of(NOBODY, "user:ann") != "user:ann"


def test_the_line_of_jobs_is_moved_cancelled_and_seen_by_its_owner_alone(
    opened: Callable[..., GenerateTab],
) -> None:
    gate = threading.Semaphore(0)
    tab = opened(lambda folder: PacedEngine(folder, gate))
    for prompt in ("a cat", "a <dog>", "a bird"):
        *_, line = submit(tab, prompt=prompt)
    owner = owner_of(None, BROWSER)
    assert "a &lt;dog&gt;" in line
    last = tab.context.jobs.active(owner)[-1]
    assert re.findall(f'data-id="([a-z]+):{last.id}"', line) == ["up", "cancel"]
    line, _ = tab.arrange(BROWSER, 0, NOBODY, click(f"up:{last.id}"))
    assert [job.request.prompt for job in tab.context.jobs.active(owner)] == ["a cat", "a bird", "a <dog>"]
    assert line.index("a bird") < line.index("a &lt;dog&gt;")
    tab.arrange("another browser", 0, NOBODY, click(f"cancel:{last.id}"))
    assert "a bird" not in tab.restore("another browser", NOBODY)[9]
    line, _ = tab.arrange(BROWSER, 0, NOBODY, click(f"cancel:{last.id}"))
    assert [job.request.prompt for job in tab.context.jobs.active(owner)] == ["a cat", "a <dog>"]
    assert "a bird" not in line
    gate.release(6)


def test_what_a_server_left_undone_is_offered_and_drawn_again(opened: Callable[..., GenerateTab]) -> None:
    gate = threading.Semaphore(0)
    before = opened(lambda folder: PacedEngine(folder, gate))
    submit(before, prompt="a whale")
    before.context.jobs.close()
    tab = opened()
    line = tab.restore(BROWSER, NOBODY)[9]
    (again,) = re.findall(r'data-id="(again:\w+)"', line)
    line, drawn_again = tab.arrange(BROWSER, 4, NOBODY, click(again))
    assert (drawn_again, "again:" in line) == (5, False)
    *_, last = tab.follow(BROWSER, NOBODY)
    assert "a whale" in last[2]
    assert tab.arrange(BROWSER, 5, NOBODY, click(again)) == ("", 5)


def test_stop_and_skip_keep_what_is_finished(opened: Callable[..., GenerateTab]) -> None:
    gate = threading.Semaphore(0)
    engine = PacedEngine(Path("m"), gate)
    engine.at_once = 1
    tab = opened(lambda folder: engine)
    submit(tab, count=4)
    viewer = tab.follow(BROWSER, NOBODY)
    next(viewer)
    (job,) = tab.context.jobs.active(owner_of(None, BROWSER))
    views = tab.context.jobs.watch(job, per_second=100)

    def until_picture(number: int) -> None:
        gate.release(1)
        next(view for view in views if view.event is not None and view.event.image_index == number)

    gate.release(3)
    until_picture(1)
    tab.go_on(BROWSER, NOBODY)
    gate.release(1)
    until_picture(2)
    tab.cancel(BROWSER, NOBODY)
    gate.release(1)
    *_, last = viewer
    assert "The picture that was finished is kept" in last[0]
    assert last[4].endswith("-7")


def test_the_last_settings_survive_a_restart_and_belong_to_their_owner(
    opened: Callable[..., GenerateTab],
) -> None:
    before = opened()
    submit(before, prompt="a whale", steps=4, sampler="Heun")
    *_, _ = before.follow(BROWSER, NOBODY)
    before.context.close()
    tab = opened()
    form = tab.restore(BROWSER, NOBODY)[10:]
    named = dict(zip(FORM, form, strict=False))
    assert (named["prompt"], named["steps"], named["seed"]) == ("a whale", 4, RANDOM_SEED)
    assert named["sampler"]["value"] == "Heun"
    assert "a whale" not in tab.restore("another browser", NOBODY)[10:]


def test_width_and_height_change_places(opened: Callable[..., GenerateTab]) -> None:
    form = opened().form
    for asked in (("48x32", None, None), (CUSTOM, 48, 32)):
        size, shown, width, height = form.swapped(*asked)
        assert (size, shown["visible"], width, height) == (CUSTOM, True, 32, 48)


def test_stop_ends_what_runs_and_what_waits(opened: Callable[..., GenerateTab]) -> None:
    gate = threading.Semaphore(0)
    tab = opened(lambda folder: PacedEngine(folder, gate))
    for _ in range(3):
        submit(tab, steps=50)
    viewer = tab.follow(BROWSER, NOBODY)
    next(viewer)
    assert [button["interactive"] for button in tab.cancel(BROWSER, NOBODY)] == [False, False]
    gate.release(5)
    *_, last = viewer
    assert "Stopped" in last[0]
    assert tab.context.jobs.active(owner_of(None, BROWSER)) == []


def test_a_picture_clicked_on_while_another_is_drawn_shows_its_details_only(
    opened: Callable[..., GenerateTab],
) -> None:
    gate = threading.Semaphore(3)
    tab = opened(lambda folder: PacedEngine(folder, gate))
    submit(tab)
    *_, done = tab.follow(BROWSER, NOBODY)
    submit(tab, prompt="a cat", steps=9)
    viewer = tab.follow(BROWSER, NOBODY)
    first = next(viewer)
    assert first[1]["visible"] is False
    stage, chosen, details, *_ = tab.select(BROWSER, NOBODY, click(done[4]))
    assert stage == gr.skip()
    assert chosen["visible"] is True
    assert "a red apple" in details
    gate.release()
    assert next(viewer)[1] == gr.skip()
    gate.release(9)


def test_a_failure_ends_as_an_error_in_words(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    submit(tab, prompt="fail, please")
    seen = []
    with pytest.raises(gr.Error, match="the numbers exploded"):
        seen.extend(tab.follow(BROWSER, NOBODY))
    assert "the numbers exploded" in seen[-1][0]
    assert list(tab.reattach(BROWSER, NOBODY))  # a reload does not complain again


def test_a_viewer_always_yields_or_gradio_would_blank_the_page(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    assert len(list(tab.follow(BROWSER, NOBODY))) == len(list(tab.reattach(BROWSER, NOBODY))) == 1


def test_settings_of_a_picture_come_back_into_the_form(opened: Callable[..., GenerateTab]) -> None:
    tab = opened()
    submit(tab, sampler="DPM++ 2M", schedule="Karras", negative="blue", size=CUSTOM, width=40, height=48)
    *_, last = tab.follow(BROWSER, NOBODY)
    values = tab.reuse_settings(BROWSER, last[4], NOBODY)[: len(tab.form.outputs)]
    (
        model,
        prompt,
        negative,
        size,
        width,
        height,
        count,
        steps,
        guidance,
        sampler,
        schedule,
        seed,
        instant,
        _styles,
        row,
    ) = values
    assert (instant["value"], instant["visible"]) == (False, False)
    assert (prompt, negative, width, height, count) == ("a red apple", "blue", 40, 48, 1)
    assert (steps, guidance, sampler["value"], schedule["value"], seed) == (3, 2.0, "DPM++ 2M", "Karras", 7)
    assert (size["value"], row["visible"]) == (CUSTOM, True)
    again = tab.form.read(
        model,
        prompt,
        negative,
        CUSTOM,
        width,
        height,
        count,
        steps,
        guidance,
        sampler["value"],
        "Karras",
        seed,
        instant["value"],
    )
    assert again[0] == tab.context.jobs.latest(owner_of(None, BROWSER)).request  # type: ignore[union-attr]


def test_lcm_is_offered_for_distilled_models_alone(
    opened: Callable[..., GenerateTab], tiny_model_folder: Path, tmp_path: Path
) -> None:
    import json
    import shutil

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
            update for update in form.choose_model(str(card.path)) if ("DDIM", "DDIM") in choices(update)
        ]
        assert (("LCM", "LCM") in choices(update)) is card.distilled
    request, card = form.read(*{**FORM, "sampler": "LCM"}.values())  # type: ignore[arg-type]
    assert form.show(request, card.path)[9]["value"] == "LCM"
    assert form.show(request, tiny_model_folder)[9]["value"] == "Euler"
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
            *_, switch, _, _ = form.choose_model(str(folder))
            assert (switch["value"], switch["visible"]) == (False, folder is taught_model_folder)
        steps, guidance, sampler, schedule = form.choose_instant(taught, True)
        assert (steps, guidance, sampler["value"], schedule["value"]) == (2, 1.0, "Euler", "Automatic")
        assert form.choose_instant(taught, False)[:2] == [4, 2.0]
        asked = {**FORM, "steps": steps, "guidance": guidance, "instant": True}
        request, _ = form.read(*{**asked, "model": taught}.values())  # type: ignore[arg-type]
        assert (request.instant, request.steps) == (True, 2)
        assert form.show(request, taught)[-3] == gr.update(value=True, visible=True)
        assert form.show(request, tiny_model_folder)[-3] == gr.update(value=False, visible=False)
        with pytest.raises(gr.Error, match="no student"):
            submit(tab, model=str(tiny_model_folder), instant=True)
        submit(tab, **{**asked, "model": taught})
        *_, last = tab.follow(BROWSER, NOBODY)
        assert "2, instant" in last[2]
    finally:
        context.close()


def choices(update: Any) -> Any:
    return update.get("choices", []) if isinstance(update, dict) else []


def test_schedules_follow_the_sampler(opened: Callable[..., GenerateTab]) -> None:
    form = opened().form
    assert form.schedules("DDIM")["choices"] == [("Automatic", "Automatic")]
    assert ("Karras", "Karras") in form.schedules("DPM++ 2M")["choices"]


def test_pictures_are_served_alone_and_whole(opened: Callable[..., GenerateTab], tmp_path: Path) -> None:
    tab = opened()
    submit(tab)
    *_, last = tab.follow(BROWSER, NOBODY)
    (url,) = set(re.findall(r'src="gradio_api/file=([^"]+)"', last[0]))
    served = Path(url)
    picture = tab.context.library.find(last[4], owner_of(None, BROWSER))
    assert picture is not None
    assert served.read_bytes() == picture.path.read_bytes()
    assert not served.is_relative_to(picture.path.parent)  # the folder with the database is not


def test_handlers_keep_no_thread_of_the_model_and_are_private(opened: Callable[..., GenerateTab]) -> None:
    page, look = build_page(opened().context)
    assert {"theme", "css", "head"} == set(look)
    assert {function.api_visibility for function in page.fns.values()} == {"private"}
    for outside in ("http://", "https://", "//fonts", "@import"):
        assert outside not in look["css"] + look["head"]


@pytest.mark.parametrize(("width", "height"), [(128, 128), (512, 512), (32, 32), (768, 512), (1024, 1024)])
def test_presets_are_sizes_the_model_draws(tiny_model_folder: Path, width: int, height: int) -> None:
    from models.defaults import GenerationDefaults

    defaults = GenerationDefaults(width=width, height=height)
    card = ModelCard(
        name="m", path=tiny_model_folder, defaults=defaults, factor=8, distilled=False, examples=()
    )
    *presets, last = [value for _, value in card.sizes]
    assert (presets[0], last) == (f"{width}x{height}", CUSTOM)
    assert len(set(presets)) == len(presets) >= 3
    for preset in presets:
        wide, high = map(int, preset.split("x"))
        assert wide % 8 == high % 8 == 0
        assert 0.6 < wide * high / (width * height) < 1.6


def test_a_card_tells_a_model_by_its_small_files(tiny_model_folder: Path, tmp_path: Path) -> None:
    import shutil

    card = read_card(tiny_model_folder)
    assert (card.name, card.size, card.factor) == (tiny_model_folder.name, "32x32", 8)
    own = tmp_path / "own"
    shutil.copytree(tiny_model_folder, own)
    (own / "examples.json").write_text('{"prompts": ["a blue dog"]}')
    assert read_card(own).examples == ("a blue dog",)
    (own / "generation_defaults.json").write_text('{"width": 32, "height": 32, "sampler": "Oiler"}')
    with pytest.raises(ModelError, match="Oiler"):
        read_card(own)
    (own / "generation_defaults.json").write_text('{"width": 32, "height": 32, "sampler": "LCM"}')
    with pytest.raises(ModelError, match="distilled"):
        read_card(own)


def test_the_form_reads_what_it_shows_for_every_sampler(opened: Callable[..., GenerateTab]) -> None:
    form: Form = opened().form
    for sampler in ("Euler a", "UniPC", "PLMS"):
        request, card = form.read(*{**FORM, "sampler": sampler}.values())  # type: ignore[arg-type]
        assert request.sampler == sampler
        shown = form.show(request, card.path)
        assert shown[9]["value"] == sampler
    with pytest.raises(RequestError):
        form.read(*{**FORM, "prompt": "\ud800"}.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [["cat", "dog"], []])
def test_a_model_of_classes_offers_them_and_needs_no_prompt(tmp_path: Path, classes: list[str]) -> None:
    folder = make_tiny_model(tmp_path / "classes", classes=classes)
    assert read_card(folder).examples == tuple(classes)
    context = open_context([folder], PacedEngine, settings=Settings(outputs=tmp_path))
    try:
        values: dict[str, Any] = {**FORM, "prompt": " "}
        request, _ = Form(context).read(*values.values())
    finally:
        context.close()
    assert request.prompt == ""


PROMPT_FIELD, STYLES_FIELD = 1, -2  # among what Form.show answers


def test_a_styled_prompt_is_drawn_and_shown_again_as_it_was_typed(
    opened: Callable[..., GenerateTab], tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,{prompt} on the left,a dog\n")
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "animal.txt").write_text("cat\n")
    tab = opened(lambda folder: LocalEngine(folder, "cpu", files=tab.context.settings.prompt_files))
    submit(tab, prompt="a {red|blue} __animal__", styles=["ink"], count=2)
    *_, last = tab.follow(BROWSER, NOBODY)
    picture, other = tab.context.library.newest(BROWSER_OWNER)
    assert picture.request.prompt in ("a red cat on the left", "a blue cat on the left")
    assert picture.request.negative_prompt == "a dog"
    assert picture.request.prompt in last[2] or other.request.prompt in last[2]
    shown = tab.form.show(picture.request, tiny_model_folder)
    assert shown[PROMPT_FIELD] == "a {red|blue} __animal__"
    assert shown[STYLES_FIELD]["value"] == ["ink"]
    (tmp_path / "styles.csv").unlink()
    shown = tab.form.show(picture.request, tiny_model_folder)
    assert (shown[PROMPT_FIELD], shown[STYLES_FIELD]["value"]) == (picture.request.prompt, [])


def test_the_styles_of_the_page_are_those_of_the_file(
    opened: Callable[..., GenerateTab], tmp_path: Path
) -> None:
    words = opened().form.words
    assert words.style_choices() == gr.update(choices=[], visible=False)
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink,\n")
    assert words.style_choices() == gr.update(choices=[("ink", "ink")], visible=True)
    (tmp_path / "styles.csv").write_bytes(b"\xff\xfe")
    assert words.style_names() == []


def test_the_line_below_the_prompt_tells_tokens_and_what_is_cut(
    opened: Callable[..., GenerateTab], tmp_path: Path
) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,on the left,\n")
    words = opened().form.words

    def line(prompt: str | None, styles: list[str] | None = None) -> str:
        return words.count_tokens("", prompt, styles, -1, 20)

    assert line(None) == line("  ") == line("a" * 10_001) == line("a", ["gone"]) == ""
    assert "3 of 14 tokens" in line("a red apple")
    assert "7 of 14 tokens" in line("a red apple", ["ink"])  # the comma before the style is one too
    assert "ls-cut" not in line("a red apple")
    long = line("dog " * 14 + "cat, <b>")
    assert "19 of 14 tokens" in long
    assert "Not read: cat, &lt;b&gt;</span>" in long
    assert "no wildcards/animal.txt" in line("a __animal__")
    assert "weight of the prompt: 30" in line("a dog at 7:30")
    assert "weight" not in line("a dog AND a cat:2")


def test_a_model_of_classes_counts_no_tokens(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "classes", classes=["cat"])
    context = open_context([folder], PacedEngine, settings=Settings(outputs=tmp_path))
    try:
        assert Form(context).words.count_tokens("", "cat", [], 1, 20) == ""
    finally:
        context.close()
