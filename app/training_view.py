"""The HTML of trainings: where one stands, its curves and samples, and two of them side by side."""

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from app import text
from app.curves import Curve, plot
from app.inside import picture_uri
from app.metrics import metrics_of
from app.trainings import LIVE, State, Training

MAX_SAMPLES = 6
SAMPLE_PIXELS = 1024  # of a grid's width at most, as it is sent


def card(training: Training | None) -> str:
    """Where a training stands: its state, how far it is, how fast, and what it said where it failed."""
    if training is None:
        return f'<div class="ls-note"><p>{text.TRAIN_NONE}</p><span>{text.TRAIN_NONE_HINT}</span></div>'
    metrics = metrics_of(training.folder)
    metrics.read()
    last, options = metrics.last, training.config.get("training", {})
    total, step = options.get("steps", 0), int(last.get("step", 0))
    percent = round(100 * step / total) if total else 0
    words = []
    if total:
        words.append(text.TRAIN_STEP.format(step=f"{step:,}", total=f"{total:,}"))
    if "loss" in last:
        words.append(text.TRAIN_AT_LOSS.format(loss=f"{last['loss']:.4g}"))
    speed = last.get("samples_per_second", 0.0)
    if speed and training.state is State.RUNNING:
        left = (total - step) * options.get("batch_size", 0) / speed
        words.append(text.TRAIN_SPEED.format(speed=f"{speed:.3g}"))
        words.append(text.TRAIN_LEFT.format(seconds=text.seconds_left(left)))
    state = text.TRAIN_STATES[training.state]
    unknown = " ls-unknown" if training.state is State.STARTING else ""
    said = ""
    if training.message:
        said = f'<p class="ls-error">{escape(text.TRAIN_SAID.format(words=training.message))}</p>'
    elif training.stage and training.autoencoder is None and training.state in LIVE:
        said = f'<p class="ls-quiet">{text.TRAIN_NOTHING_YET}</p>'
    elif training.can_go_on and training.autoencoder is None and not last:
        said = f'<p class="ls-quiet">{text.TRAIN_NOT_BEGUN}</p>'
    return (
        f'<div class="ls-training" data-state="{training.state}"><p class="ls-training-name">'
        f"<b>{escape(training.name)}</b> <span>{state}</span></p>"
        f'<div class="ls-bar{unknown}" role="progressbar" aria-label="{escape(training.name)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<span style="width:{percent}%"></span></div>'
        f'<p class="ls-facts">{"".join(f"<span>{one}</span>" for one in words)}</p>{said}</div>'
    )


def plots(trainings: Sequence[Training], log: bool) -> str:
    """The curves of one training, or of two in the same frames."""
    every = [metrics_of(training.folder) for training in trainings]
    for metrics in every:
        metrics.read()
    steps_to = max((metrics.last.get("step", 0) for metrics in every), default=0)
    frames = []
    for title, name, logarithmic in (
        (text.TRAIN_LOSS, "loss", log),
        (text.TRAIN_VALIDATION, "validation_loss_", log),
        (text.TRAIN_PSNR, "held_out_psnr_db", False),
    ):
        curves = []
        for place, (training, metrics) in enumerate(zip(trainings, every, strict=True)):
            series = metrics.mean_of(name) if name.endswith("_") else metrics.series(name)
            if series is not None:
                curves.append(Curve(training.name, series, place))
        frames.append(plot(title, curves, logarithmic, steps_to))
    return f'<div class="ls-plots">{"".join(frames)}</div>' if any(frames) else ""


def samples(trainings: Sequence[Training]) -> str:
    """The newest sample grids, the newest first; those of two trainings stand next to each other."""
    columns = []
    for training in trainings:
        grids = sorted((training.folder / "samples").glob("step-*.png"), reverse=True)[:MAX_SAMPLES]
        figures = ""
        for grid in grids:
            step = int(grid.stem.removeprefix("step-"))
            words = escape(text.TRAIN_SAMPLES_AT.format(name=training.name, step=f"{step:,}"))
            try:
                uri = small(grid, grid.stat().st_mtime_ns)
            except OSError:  # it is being written
                continue
            figures += (
                f'<figure><img src="{uri}" alt="{words}" loading="lazy">'
                f"<figcaption>{words}</figcaption></figure>"
            )
        if figures:
            columns.append(f"<div>{figures}{_asked(training)}</div>")
    if not columns:
        return ""
    return (
        f'<h3>{text.TRAIN_SAMPLES}</h3><div class="ls-samples" style="--columns:{len(columns)}">'
        f"{''.join(columns)}</div>"
    )


def differences(one: Training, other: Training) -> str:
    """The settings in which two trainings differ."""
    first, second = (_flat(training.config) for training in (one, other))
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(first.get(key, text.TRAIN_NOT_SET))}</td>"
        f"<td>{escape(second.get(key, text.TRAIN_NOT_SET))}</td></tr>"
        for key in dict.fromkeys((*first, *second))
        if first.get(key) != second.get(key)
    )
    if not rows:
        return f'<p class="ls-quiet">{text.TRAIN_SAME}</p>'
    heads = "".join(f"<th>{escape(head)}</th>" for head in (text.TRAIN_SETTING, one.name, other.name))
    return (
        f"<h3>{text.TRAIN_DIFFERENT}</h3>"
        f'<table class="ls-lab"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    )


def estimate_view(said: str) -> str:
    """What a dry run printed, as a list of its own headings."""
    rows = ""
    for line in said.splitlines():
        heading, _, value = line.partition(" ")
        if heading in text.TRAIN_ESTIMATED:
            rows += f"<div><dt>{text.TRAIN_ESTIMATED[heading]}</dt><dd>{escape(value.strip())}</dd></div>"
    return f'<dl class="ls-estimate">{rows}</dl>'


def waiting(words: str) -> str:
    """A bar for work of unknown length."""
    return (
        f'<div class="ls-bar ls-unknown" role="progressbar" aria-label="{words}"><span></span></div>'
        f'<p class="ls-words"><span>{words}…</span></p>'
    )


def _asked(training: Training) -> str:
    try:
        prompts = (training.folder / "samples" / "prompts.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    lines = "".join(f"<li>{escape(prompt)}</li>" for prompt in prompts)
    return f'<details class="ls-help"><summary>{text.TRAIN_SAMPLE_WORDS}</summary><ol>{lines}</ol></details>'


@lru_cache(maxsize=4 * MAX_SAMPLES)
def small(grid: Path, _mtime_ns: int) -> str:
    """A grid of samples as the address of a picture no larger than a page shows it."""
    with Image.open(grid) as picture:
        picture.thumbnail((SAMPLE_PIXELS, 4 * SAMPLE_PIXELS))
        return picture_uri(picture.convert("RGB"), "WEBP")


def _flat(config: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {f"{section}.{key}": str(value) for section, keys in config.items() for key, value in keys.items()}
