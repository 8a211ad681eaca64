import re
import threading
from pathlib import Path

import gradio as gr
import pytest

from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, click, submit
from tests.app.queues import close_amid_a_step


def test_a_reloaded_page_finds_its_running_job(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(0)
    tab = open_tab(lambda folder: PacedEngine(folder, gate))
    submit(tab, prompt="a green frog", steps=5)
    gate.release(2)
    leaving = tab.viewer.follow(BROWSER, "", NOBODY)
    next(leaving)
    leaving.close()  # type: ignore[attr-defined]
    restored = tab.restore(BROWSER, NOBODY)
    assert restored[tab.form.prompt] == "a green frog"
    assert restored[tab.viewer.stop]["interactive"] is True
    assert restored[tab.viewer.asked] == tab.context.jobs.active(OWNER)[0].id  # which a view follows
    viewer = tab.viewer.follow(BROWSER, "", NOBODY)
    assert 'role="progressbar"' in next(viewer)[tab.viewer.stage]
    gate.release(10)
    assert any('data-state="done"' in str(update[tab.viewer.stage]) for update in viewer)
    assert 'data-state="done"' in tab.restore(BROWSER, NOBODY)[tab.viewer.stage]


def test_the_line_of_jobs_is_moved_cancelled_and_seen_by_its_owner_alone(
    open_tab: OpenTab,
) -> None:
    gate = threading.Semaphore(0)
    tab = open_tab(lambda folder: PacedEngine(folder, gate))
    for prompt in ("a cat", "a <dog>", "a bird"):
        line = submit(tab, prompt=prompt)[tab.viewer.line]
    owner = OWNER
    assert "a &lt;dog&gt;" in line
    last = tab.context.jobs.active(owner)[-1]
    assert re.findall(f'data-id="([a-z]+):{last.id}"', line) == ["up", "cancel"]
    line = tab.viewer.arrange(BROWSER, NOBODY, click(f"up:{last.id}"))[tab.viewer.line]
    assert [job.request.prompt for job in tab.context.jobs.active(owner)] == ["a cat", "a bird", "a <dog>"]
    assert line.index("a bird") < line.index("a &lt;dog&gt;")
    tab.viewer.arrange("another browser", NOBODY, click(f"cancel:{last.id}"))
    assert "a bird" not in tab.restore("another browser", NOBODY)[tab.viewer.line]
    line = tab.viewer.arrange(BROWSER, NOBODY, click(f"cancel:{last.id}"))[tab.viewer.line]
    assert [job.request.prompt for job in tab.context.jobs.active(owner)] == ["a cat", "a <dog>"]
    assert "a bird" not in line
    gate.release(6)


def test_what_a_server_left_undone_is_offered_and_drawn_again(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(0)
    before = open_tab(lambda folder: PacedEngine(folder, gate))
    submit(before, prompt="a whale")
    close_amid_a_step(before.context.jobs, gate)
    tab = open_tab()
    line = tab.restore(BROWSER, NOBODY)[tab.viewer.line]
    (again,) = re.findall(r'data-id="(again:\w+)"', line)
    arranged = tab.viewer.arrange(BROWSER, NOBODY, click(again))
    job = tab.context.jobs.latest(OWNER)
    assert job is not None
    assert arranged[tab.viewer.asked] == job.id
    assert "again:" not in arranged[tab.viewer.line]
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    assert "a whale" in last[tab.chosen.details]
    assert tab.viewer.arrange(BROWSER, NOBODY, click(again))[tab.viewer.asked] == gr.skip()


def test_stop_and_skip_keep_what_is_finished(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(0)
    engine = PacedEngine(Path("m"), gate)
    engine.at_once = 1
    tab = open_tab(lambda folder: engine)
    submit(tab, count=4)
    viewer = tab.viewer.follow(BROWSER, "", NOBODY)
    next(viewer)
    (job,) = tab.context.jobs.active(OWNER)
    views = tab.context.jobs.watch(job, per_second=100)

    def until_picture(number: int) -> None:
        gate.release(1)
        next(view for view in views if view.event is not None and view.event.image_index == number)

    gate.release(3)
    until_picture(1)
    tab.viewer.go_on(BROWSER, NOBODY)
    gate.release(1)
    until_picture(2)
    tab.viewer.cancel(BROWSER, NOBODY)
    gate.release(1)
    *_, last = viewer
    assert "The picture that was finished is kept" in last[tab.viewer.stage]
    assert last[tab.chosen.selected].endswith("-7")


def test_stop_ends_what_runs_and_what_waits(open_tab: OpenTab) -> None:
    gate = threading.Semaphore(0)
    tab = open_tab(lambda folder: PacedEngine(folder, gate))
    for _ in range(3):
        submit(tab, steps=50)
    viewer = tab.viewer.follow(BROWSER, "", NOBODY)
    next(viewer)
    assert [button["interactive"] for button in tab.viewer.cancel(BROWSER, NOBODY)] == [False, False]
    gate.release(5)
    *_, last = viewer
    assert "Stopped" in last[tab.viewer.stage]
    assert tab.context.jobs.active(OWNER) == []


def test_a_picture_clicked_on_while_another_is_drawn_shows_its_details_only(
    open_tab: OpenTab,
) -> None:
    gate = threading.Semaphore(3)
    tab = open_tab(lambda folder: PacedEngine(folder, gate))
    submit(tab)
    *_, done = tab.viewer.follow(BROWSER, "", NOBODY)
    submit(tab, prompt="a cat", steps=9)
    viewer = tab.viewer.follow(BROWSER, "", NOBODY)
    first = next(viewer)
    assert first[tab.chosen.column]["visible"] is False
    shown = tab.viewer.select(BROWSER, NOBODY, click(done[tab.chosen.selected]))
    assert shown[tab.viewer.stage] == gr.skip()
    assert shown[tab.chosen.column]["visible"] is True
    assert "a red apple" in shown[tab.chosen.details]
    gate.release()
    assert tab.chosen.column not in next(viewer)
    gate.release(9)


def test_a_failure_ends_as_an_error_in_words(open_tab: OpenTab) -> None:
    tab = open_tab()
    submit(tab, prompt="fail, please")
    seen = []
    with pytest.raises(gr.Error, match="the numbers exploded"):
        seen.extend(tab.viewer.follow(BROWSER, "", NOBODY))
    assert "the numbers exploded" in seen[-1][tab.viewer.stage]
    assert tab.restore(BROWSER, NOBODY)[tab.viewer.asked] == gr.skip()  # a reload does not complain again


def test_a_viewer_always_yields_or_gradio_would_blank_the_page(open_tab: OpenTab) -> None:
    tab = open_tab()
    assert list(tab.viewer.follow(BROWSER, "", NOBODY)) == [{tab.viewer.stage: gr.skip()}]
