from pathlib import Path

import gradio as gr

from app.context import open_context
from app.settings import Settings
from app.tabs.form import Form
from pipelines.local_engine import LocalEngine
from tests.app.engines import PacedEngine
from tests.app.forms import BROWSER, NOBODY, OWNER, OpenTab, submit
from tests.tiny import make_tiny_model


def test_a_styled_prompt_is_drawn_and_shown_again_as_it_was_typed(
    open_tab: OpenTab, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,{prompt} on the left,a dog\n")
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "animal.txt").write_text("cat\n")
    tab = open_tab(lambda folder: LocalEngine(folder, "cpu", files=tab.context.settings.prompt_files))
    submit(tab, prompt="a {red|blue} __animal__", styles=["ink"], count=2)
    *_, last = tab.viewer.follow(BROWSER, "", NOBODY)
    picture, other = tab.context.library.newest(OWNER)
    assert picture.request.prompt in ("a red cat on the left", "a blue cat on the left")
    assert picture.request.negative_prompt == "a dog"
    assert (
        picture.request.prompt in last[tab.chosen.details] or other.request.prompt in last[tab.chosen.details]
    )
    shown = tab.form.show(picture.request, tiny_model_folder)
    assert shown[tab.form.prompt] == "a {red|blue} __animal__"
    assert shown[tab.form.words.styles]["value"] == ["ink"]
    (tmp_path / "styles.csv").unlink()
    shown = tab.form.show(picture.request, tiny_model_folder)
    assert (shown[tab.form.prompt], shown[tab.form.words.styles]["value"]) == (picture.request.prompt, [])


def test_the_styles_of_the_page_are_those_of_the_file(open_tab: OpenTab, tmp_path: Path) -> None:
    words = open_tab().form.words
    assert words.style_choices() == gr.update(choices=[], visible=False)
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink,\n")
    assert words.style_choices() == gr.update(choices=[("ink", "ink")], visible=True)
    (tmp_path / "styles.csv").write_bytes(b"\xff\xfe")
    assert words.style_names() == []


def test_the_line_below_the_prompt_tells_tokens_and_what_is_cut(open_tab: OpenTab, tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,on the left,\n")
    words = open_tab().form.words

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
