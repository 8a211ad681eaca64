"""The page as a whole: header, tabs and looks; built once in each language."""

from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app import language, text
from app.api.for_clients import offer_generate
from app.context import Context
from app.multilingual import MultilingualBlocks, build_in_all
from app.tabs.compare import CompareTab
from app.tabs.events import QUICK, viewers
from app.tabs.generate import GenerateTab
from app.tabs.history import HistoryTab
from app.tabs.inside import InsideTab
from app.tabs.models import ModelsTab
from app.tabs.teach import TeachForm
from app.tabs.train import TrainTab

STATIC = Path(__file__).parent / "static"
CSS = "".join(
    (STATIC / f"{name}.css").read_text(encoding="utf-8") for name in ("studio", "history", "train", "models")
)
SCRIPTS = ("studio", "weights", "viewer", "live", "copy", "inside", "language")
HEAD = '<meta name="color-scheme" content="light dark">' + "".join(
    f"<script>{(STATIC / f'{name}.js').read_text(encoding='utf-8')}</script>" for name in SCRIPTS
)


def make_theme() -> gr.themes.Base:
    """Neutral surfaces, so that the pictures have the colour, and one accent; the system's own fonts."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.zinc,
        radius_size=gr.themes.sizes.radius_lg,
        text_size=gr.themes.sizes.text_md,
        spacing_size=gr.themes.sizes.spacing_md,
        font=fonts,
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
    )
    return theme.set(
        body_background_fill="#f6f6f5",
        body_background_fill_dark="#121314",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1b1d",
        background_fill_secondary="#f1f1ef",
        background_fill_secondary_dark="#222426",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_padding="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_label_background_fill="transparent",
        block_title_text_size="*text_sm",
        block_title_text_weight="550",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_color_dark="*body_text_color_subdued",
        body_text_color="#1c1d1f",
        body_text_color_dark="#ececea",
        body_text_color_subdued="#5f6266",
        body_text_color_subdued_dark="#a3a6aa",
        border_color_primary="#e2e2df",
        border_color_primary_dark="#303336",
        input_background_fill="#ffffff",
        input_background_fill_dark="#202224",
        input_border_color="#d8d8d4",
        input_border_color_dark="#3a3d41",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_radius="10px",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, var(--primary-500) 25%, transparent)",
        input_shadow_focus_dark="0 0 0 3px color-mix(in srgb, var(--primary-400) 30%, transparent)",
        input_placeholder_color="#8a8d91",
        input_placeholder_color_dark="#7d8185",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#f1f1ef",
        button_secondary_background_fill_dark="#26282b",
        button_secondary_background_fill_hover_dark="#303336",
        button_secondary_border_color="#d8d8d4",
        button_secondary_border_color_dark="#3a3d41",
        button_border_width="1px",
        button_large_radius="10px",
        button_small_radius="8px",
        button_small_text_weight="500",
        slider_color="*primary_600",
        slider_color_dark="*primary_500",
    )


def build_page(context: Context) -> tuple[gr.Blocks, dict[str, Any]]:
    """The page, and how it looks as keyword arguments for `launch`: theme, css and head."""
    return build_in_all(lambda: _build(context)), {"theme": make_theme(), "css": CSS, "head": HEAD}


def _build(context: Context) -> MultilingualBlocks:
    page = MultilingualBlocks(title=text.TITLE, analytics_enabled=False, fill_width=True)
    with page:
        top = gr.HTML(_header(context), apply_default_css=False, elem_id="header")
        with gr.Tabs(elem_id="tabs") as tabs:
            # Rendered even while another is seen: what is drawn meanwhile is shown in it.
            with gr.Tab(text.TAB_GENERATE, id="generate", render_children=True) as generate_tab:
                generate = GenerateTab(context)
            with gr.Tab(text.TAB_COMPARE, id="compare", render_children=True):
                CompareTab(context, generate)
            with gr.Tab(text.INSIDE, id="inside"):
                inside = InsideTab(context, generate, tabs)
            with gr.Tab(text.TAB_TRAIN, id="train") as train_tab:
                TeachForm(context, generate, tabs)
                TrainTab(context, generate, tabs, train_tab)
            with gr.Tab(text.TAB_HISTORY, id="history") as history_tab:
                HistoryTab(context, generate, tabs, history_tab)
            with gr.Tab(text.TAB_MODELS, id="models") as models_tab:
                ModelsTab(context, generate, tabs, models_tab)
        generate.connect_load(page)
        page.load(inside.find_again, [generate.browser, inside.looked], inside.seen, **viewers(context))
        chosen = [generate.browser, generate.chosen.selected]
        generate_tab.select(generate.viewer.look_again, chosen, [generate.viewer.strip], **QUICK)
        model = generate.form.model
        generate_tab.select(generate.form.offer_again, [model], [model], **QUICK)
        model.change(partial(_header, context), [model], [top], **QUICK)
        page.load(partial(_header_when_loaded, context), [model], [top], **viewers(context))
        offer_generate(context)
    return page


def _header(context: Context, model: str | None = None) -> str:
    """Title, model and languages, and what the scripts say, where they find it."""
    card = context.model(model)
    hint, tagline = text.NO_MODEL, text.TAGLINE
    if card is not None:
        if card.elsewhere:
            tagline = text.TAGLINE_ELSEWHERE.format(server=escape(card.elsewhere))
        size = text.size(card.defaults.width, card.defaults.height)
        device = card.elsewhere or (f"{text.LOADING}…" if context.jobs.loading else context.jobs.device)
        hint = " · ".join(filter(None, (card.name, size, device)))
    languages = "".join(
        f'<button type="button" lang="{tag}" data-language="{tag}"'
        f' aria-pressed="{"true" if tag == language.current() else "false"}">{name}</button>'
        for tag, name in language.LANGUAGES.items()
    )
    return (
        f'<header class="ls-header"><h1>{text.TITLE}</h1><p>{tagline}</p>'
        f'<p class="ls-model">{escape(hint)}</p>'
        f'<div class="ls-languages" role="group" aria-label="{text.LANGUAGE}">{languages}</div></header>'
        + _script_words()
    )


def _header_when_loaded(context: Context, model: str | None) -> Iterator[str]:
    """The header as it is, and once more when the first model is loaded."""
    yield _header(context, model)
    context.jobs.wait_until_loaded()
    yield _header(context, model)


def _script_words() -> str:
    words = "".join(f'<span data-word="{name}">{word}</span>' for name, word in text.VIEWER.items())
    keys = "".join(f"<div><dt>{keys}</dt><dd>{does}</dd></div>" for keys, does in text.KEY_MEANINGS.items())
    sheet = f'<section data-word="keys"><h2>{text.KEY_SHEET}</h2><dl>{keys}</dl></section>'
    return f'<template id="ls-words">{words}{sheet}</template>'
