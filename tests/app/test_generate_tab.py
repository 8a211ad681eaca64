import re
from pathlib import Path

import gradio as gr
import pytest

from app.cards import CUSTOM
from app.page import build_page
from app.tabs.events import owner_of
from app.tabs.finer import RANDOM_SEED
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, click, submit


def test_a_prompt_becomes_a_picture_with_its_settings(open_tab: OpenTab) -> None:
    tab = open_tab()
    submit(tab, prompt="  a <b>red</b> apple ", count=2)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    seen, chosen = tab.viewer, tab.chosen
    stage, details, strip = last[seen.stage], last[chosen.details], last[seen.strip]
    assert 'data-state="done"' in stage
    assert len(re.findall("<img", stage)) == len(re.findall("<img", strip)) == 2
    assert "a &lt;b&gt;red&lt;/b&gt; apple" in details
    assert "<b>red" not in stage + details + strip + last[seen.status]
    assert last[chosen.selected].endswith("-7")
    assert (last[chosen.column]["visible"], last[seen.stop]["interactive"]) == (True, False)


def test_wrong_requests_are_answered_at_once_and_nothing_is_queued(
    open_tab: OpenTab,
) -> None:
    tab = open_tab()
    for changes, words in (
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"size": CUSTOM, "width": 33}, "multiple of"),
        ({"size": CUSTOM, "width": None}, "whole numbers"),
        ({"size": CUSTOM, "height": 1e300}, "height must be"),
        ({"size": "axb"}, "whole numbers"),
        ({"steps": 0}, "steps must be"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"guidance_scale": float("nan")}, "NaN"),
        ({"sampler": "Oiler"}, "Euler"),
        ({"sampler": "DDIM", "schedule": "Karras"}, "does not take"),
        ({"seed": -2}, "seed must be"),
        ({"count": 1000}, "count must be"),
    ):
        with pytest.raises(gr.Error, match=words):
            submit(tab, **changes)
    assert tab.context.jobs.active(OWNER) == []
    assert tab.context.jobs.rows.newest(OWNER) == []


def test_a_page_without_any_model_says_what_is_missing(open_tab: OpenTab) -> None:
    tab = open_tab(models=0)
    with pytest.raises(gr.Error, match="There is no model"):
        submit(tab)


def test_seeds_are_random_unless_given(open_tab: OpenTab) -> None:
    tab = open_tab()
    seeds = []
    for seed in (-1, None, 0):
        submit(tab, seed=seed)
        *_, _ = tab.viewer.follow(BROWSER, "", NOBODY)
        seeds.append(tab.last_seed(BROWSER, NOBODY))
    assert seeds[2] == 0
    assert len(set(seeds)) == 3


def test_a_new_browser_gets_a_secret_and_sees_nothing_of_others(open_tab: OpenTab) -> None:
    tab = open_tab()
    submit(tab)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    picture = last[tab.chosen.selected]
    restored = tab.restore("", NOBODY)
    fresh = restored[tab.browser]
    assert len(fresh) >= 24
    assert fresh != tab.restore("", NOBODY)[tab.browser]
    assert 'data-state="empty"' in restored[tab.viewer.stage]
    with pytest.raises(gr.Error, match="no longer there"):
        tab.viewer.select(fresh, NOBODY, click(picture))
    with pytest.raises(gr.Error, match="no longer there"):
        tab.chosen.reuse_settings(fresh, picture, NOBODY)
    assert tab.viewer.select(BROWSER, NOBODY, click(picture))[tab.chosen.selected] == picture


def test_people_are_told_apart_by_login_before_browser() -> None:
    ann = gr.Request(username="ann")
    assert owner_of(ann, "one") == owner_of(ann, "two") == "user:ann"
    assert owner_of(NOBODY, "user:ann") != "user:ann"


def test_the_last_settings_survive_a_restart_and_belong_to_their_owner(
    open_tab: OpenTab,
) -> None:
    before = open_tab()
    submit(before, prompt="a whale", steps=4, sampler="Heun")
    *_, _ = before.viewer.follow(BROWSER, "", NOBODY)
    before.context.close()
    tab = open_tab()
    shown, form = tab.restore(BROWSER, NOBODY), tab.form
    assert (shown[form.prompt], shown[form.steps], shown[form.seed]) == ("a whale", 4, RANDOM_SEED)
    assert shown[form.sampler]["value"] == "Heun"
    assert "a whale" not in str(tab.restore("another browser", NOBODY).values())


def test_pictures_are_served_alone_and_whole(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    submit(tab)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    (url,) = set(re.findall(r'src="gradio_api/file=([^"]+)"', last[tab.viewer.stage]))
    served = Path(url)
    picture = tab.context.library.find(last[tab.chosen.selected], OWNER)
    assert picture is not None
    assert served.read_bytes() == picture.path.read_bytes()
    assert not served.is_relative_to(picture.path.parent)  # the folder with the database is not


def test_handlers_keep_no_thread_of_the_model_and_are_private(open_tab: OpenTab) -> None:
    page, look = build_page(open_tab().context)
    assert {"theme", "css", "head"} == set(look)
    public = {function.api_name for function in page.fns.values() if function.api_visibility != "private"}
    assert public == {"generate"}  # the endpoint for programs, which keeps its name
    for outside in ("http://", "https://", "//fonts", "@import"):
        assert outside not in look["css"] + look["head"]
