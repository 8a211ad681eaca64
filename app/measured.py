"""What `evaluate` found out about a model, as the page shows it.

metrics.json comes with the model, from anywhere: of it only numbers in a sensible range and the names of
feature networks are shown, and the names are escaped.
"""

import shlex
from html import escape
from pathlib import Path
from typing import Any, TypeGuard

from app import text
from evaluation.record import OTHERS
from models.defaults import METRICS
from models.errors import ModelError
from models.weights import read_json

MAX_NETWORKS, MAX_NAME_CHARACTERS = 4, 60
LARGEST = 1e9  # no measure is larger


def measured(folder: Path | None, opened: bool = True) -> str:
    """A model folder's measures with their intervals as HTML, and how to make those that are missing.

    Where not `opened` a click shows them.
    """
    if folder is None:
        return ""
    try:
        known = read_json(folder / METRICS) if (folder / METRICS).exists() else {}
    except ModelError as error:
        return _section(f'<p class="ls-quiet">{escape(str(error))}</p>', opened)
    autoencoder, diffusion = _part(known, "autoencoder"), _part(known, "diffusion")
    rows = [*_retrieval(diffusion), *_distances(diffusion), *_autoencoder(autoencoder)]
    rows += _instant(_part(known, "instant"))
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    where = shlex.quote(str(folder))
    missing = "".join(
        f"<p>{words}</p><code>{escape(f'python launch.py evaluate {part} --model {where} --data DIR')}</code>"
        for part, words, there in (
            ("diffusion", text.NOT_MEASURED_DIFFUSION, diffusion),
            ("autoencoder", text.NOT_MEASURED_AUTOENCODER, autoencoder),
        )
        if not there
    )
    return _section(table + (f'<div class="ls-quiet">{missing}</div>' if missing else ""), opened)


def _section(inside: str, opened: bool) -> str:
    words = f"<summary>{text.MEASURED}</summary>"
    return f'<details class="ls-measured"{" open" if opened else ""}>{words}{inside}</details>'


def _retrieval(diffusion: dict[str, Any]) -> list[str]:
    rows = []
    for kind, words in text.MEASURED_KINDS.items():
        one = _part(_part(diffusion, "retrieval"), kind)
        found, share, n = _value(one, "top5", ".1%"), _number(one, "share_top5"), _number(one, "n")
        nearest, *ceilings = (_value(one, key, ".1%") for key in ("top1", "ceiling_top1", "ceiling_top5"))
        beside = []
        if share is not None and ceilings[1]:
            beside.append(text.SHARE_OF_REAL.format(share=f"{share:.0%}", ceiling=ceilings[1]))
        if nearest and ceilings[0]:
            beside.append(text.NEAREST_ONE.format(found=nearest, ceiling=ceilings[0]))
        if n is not None:
            beside.append(text.CAPTIONS_ASKED.format(n=f"{n:.4g}"))
        if found:
            rows.append(_row(words, found, "; ".join(beside)))
    return [f'<tr><th colspan="2">{text.RETRIEVAL}</th></tr>', *rows] if rows else []


def _distances(diffusion: dict[str, Any]) -> list[str]:
    others = list(_part(diffusion, OTHERS).items())[:MAX_NETWORKS]
    rows = []
    for name, one in [(diffusion.get("features"), diffusion), *others]:
        for key, words in (("kernel_distance", text.KERNEL), ("frechet_distance", text.FRECHET)):
            found = _value(one, key) if isinstance(one, dict) else ""
            if found:
                rows.append(_row(f"{words} ({str(name)[:MAX_NAME_CHARACTERS]})", found))
    return rows


def _autoencoder(autoencoder: dict[str, Any]) -> list[str]:
    found = {
        text.PSNR: _value(autoencoder, "psnr_db", unit=" dB"),
        text.PSNR_BOX: _value(autoencoder, "psnr_box_db", unit=" dB"),
        text.SSIM: _value(autoencoder, "ssim"),
    }
    return [_row(words, said) for words, said in found.items() if said]


def _instant(instant: dict[str, Any]) -> list[str]:
    steps, ratio = _number(instant, "steps"), _value(instant, "kernel_distance_ratio")
    drop = _value(instant, "retrieval_top5_drop", ".1f", times=100)
    if steps is None or not ratio:
        return []
    words = text.MEASURED_INSTANT.format(steps=f"{steps:.4g}")
    beside = text.POINTS_LOST.format(points=drop) if drop else ""
    return [_row(words, text.TIMES.format(ratio=ratio), beside)]


def _row(words: str, value: str, beside: str = "") -> str:
    small = f"<small>{escape(beside)}</small>" if beside else ""
    return f'<tr><th scope="row">{escape(words)}</th><td>{escape(value)}{small}</td></tr>'


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _sensible(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if _sensible(value) else None


def _value(values: dict[str, Any], name: str, form: str = ".4g", unit: str = "", times: float = 1) -> str:
    """A number with its interval where it has one, "" where there is no number."""
    number, ends = _number(values, name), values.get(f"{name}_interval")
    if number is None:
        return ""
    interval = ""
    if isinstance(ends, list) and len(ends) == 2 and all(map(_sensible, ends)):
        interval = f" ({times * ends[0]:{form}} to {times * ends[1]:{form}})"
    return f"{times * number:{form}}{unit}{interval}"
