"""What the tab does with live pictures; test_browser_live.py measures them on the page."""

import math
import re
import threading
from typing import Any

import gradio as gr

from app.tabs.events import Updates
from app.tabs.generate import GenerateTab
from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, values


def type_live(tab: GenerateTab, before: str = "", browser: str = BROWSER, **changes: object) -> Updates:
    return tab.submit_live(browser, before, NOBODY, *values(tab.fields, **changes).values())


def test_one_seed_is_drawn_and_kept_and_the_same_form_draws_nothing_again(open_tab: OpenTab) -> None:
    tab = open_tab()
    first = type_live(tab, seed=-1)
    seed = first[tab.form.seed]
    assert seed >= 0
    again = type_live(tab, first[tab.live_job], seed=seed)
    assert tab.viewer.asked not in again
    second = type_live(tab, first[tab.live_job], seed=seed, steps=4)
    assert second[tab.form.seed] == gr.skip()  # what is typed there is not written over
    job = tab.context.jobs.find(second[tab.live_job], OWNER)
    assert job is not None
    assert job.request.seed == seed
    assert second[tab.live_job] != first[tab.live_job]


def test_what_cannot_be_drawn_is_said_without_an_error(open_tab: OpenTab) -> None:
    tab = open_tab()
    assert "prompt is empty" in type_live(tab, prompt=" ")[tab.live_words]
    assert type_live(tab)[tab.live_words] == ""


def test_a_replaced_picture_is_never_shown_as_stopped_and_the_stage_never_blank(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(3)
    tab = open_tab(lambda folder: PacedEngine(folder, gate), live_stands_seconds=math.inf)
    job: Any = type_live(tab, prompt="one")[tab.live_job]
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    viewer = tab.viewer.follow(BROWSER, last[tab.viewer.ended], NOBODY)
    for words in ("two", "three", "four"):
        job = type_live(tab, job, prompt=words)[tab.live_job]
    threading.Timer(0.5, gate.release, [20]).start()  # while the viewer waits for the first step
    seen = list(viewer)
    stages = [str(update.get(tab.viewer.stage, "")) for update in seen]
    assert "Stopped" not in "".join(stages)
    assert [re.findall('data-state="([a-z]+)"', words) for words in stages if "data-state" in words] == [
        ["done"]
    ]
    assert seen[-1][tab.viewer.ended] == job
    assert "four" in seen[-1][tab.chosen.details]
    assert all(tab.chosen.column not in update for update in seen[:-1])
    assert len(tab.context.library.newest(OWNER)) == 1


def test_two_browsers_draw_live_apart(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(0)
    tab = open_tab(lambda folder: PacedEngine(folder, gate))
    job = type_live(tab, prompt="mine")[tab.live_job]
    type_live(tab, job, "another browser", prompt="theirs")
    (mine,) = tab.context.jobs.active(OWNER)
    assert (mine.id, mine.replaced) == (job, False)
    gate.release(6)


def test_a_view_shows_the_end_of_a_job_once(open_tab: OpenTab) -> None:
    tab = open_tab()
    type_live(tab)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    assert list(tab.viewer.follow(BROWSER, last[tab.viewer.ended], NOBODY)) == [{tab.viewer.stage: gr.skip()}]
