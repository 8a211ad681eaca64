"""What `benchmark inference` found out, as tables in Markdown."""

from collections.abc import Sequence
from typing import Any

from evaluation.contenders import PARTS, REFERENCE


def tables(report: dict[str, Any]) -> str:
    """The whole report; every case with a table for each clock, one of the pictures, and the limit."""
    about = report["machine"]
    flags = [flag for flag in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if about[flag]]
    load = "" if about["load"] is None else f", load {about['load']:.1f} when it began"
    openvino = f", OpenVINO {about['openvino']}" if about["openvino"] else ""
    versions = f"torch {about['torch']}, diffusers {about['diffusers']}{openvino}"
    cores = f"{about['cores']} cores ({', '.join(flags)})"
    lines = [f"{about['processor']}, {cores}; {versions}; {about['date']}{load}."]
    for name, case in report["cases"].items():
        lines += ["", *_case(name, case, about["threads"])]
    if report["savings"]:
        rows = [
            [
                saving["what"] + ("" if saving["exact"] else " (another picture)"),
                f"{saving['saved_seconds'] * 1000:.1f}",
                f"{saving['share']:.1%} of {saving['of']}",
            ]
            for saving in report["savings"]
        ]
        lines += ["", "### What is saved (1 thread, starter)", ""]
        lines += _table(["what", "milliseconds", "share of the time without it"], rows)
    if not about["avx512_bf16"]:
        lines += ["", "This processor has no avx512_bf16: bfloat16 gains little here, or costs."]
    return "\n".join(lines)


def _case(name: str, case: dict[str, Any], threads: int) -> list[str]:
    lines = [
        f"### {name}: {case['width']}x{case['height']}, batch {case['batch']}, {case['steps']} steps of "
        f"{case['sampler']}, guidance {case['guidance_scale']:g}",
    ]
    contenders = {REFERENCE: case["reference"], **case["engines"]}
    clocks = {"cpu": "Seconds of the processor, 1 thread"}
    if threads > 1:  # else they say the same, or what else the machine did
        clocks["wall"] = f"Seconds on the wall, {threads} threads"
    for kind, text in clocks.items():
        rows = [
            [engine, *_times(row, kind), _ratio(row.get("cpu_speedup" if kind == "cpu" else "speedup"))]
            for engine, row in contenders.items()
            if f"{kind}_seconds" in row
        ]
        if rows:
            pictures = case["reference"].get(f"{kind}_pictures", 0)
            lines += [
                "",
                f"{text}: medians of {pictures} drawings and quartiles; percent of the fastest product.",
                "",
            ]
            lines += _table(["", "whole", *PARTS, "speed-up"], rows)
    rows = [
        [
            engine,
            row["ran_on"],
            f"{row['psnr_median_db']:.1f}",
            f"{row['psnr_min_db']:.1f}",
            row["max_abs_255"],
        ]
        for engine, row in case["engines"].items()
        if "max_abs_255" in row
    ]
    if rows:
        header = ["", "ran on", "PSNR, median (dB)", "PSNR, worst (dB)", "largest difference (of 255)"]
        lines += ["", *_table(header, rows)]
    if case["flops"]:
        lines += ["", _limit(case)]
    peaks = [
        f"{name} {row['peak_bytes'] / 2**30:.2f}" for name, row in contenders.items() if "peak_bytes" in row
    ]
    if peaks:
        lines += ["", f"Peak memory of a fresh process (GiB): {', '.join(peaks)}."]
    lines += [f"\nNot measured: {engine}, since {reason}." for engine, reason in case["skipped"].items()]
    for part, profile in case["profile"].items():
        lines += ["", *_profile(part, profile)]
    return lines


def _limit(case: dict[str, Any]) -> str:
    work = ", ".join(
        f"{'a step of the UNet' if part == 'unet' else 'a decoding'} {flops / 1e9:.2f} GFLOP"
        for part, flops in case["flops"].items()
    )
    rates = "; ".join(
        f"{count} thread{'s' * (int(count) > 1)} {rates['fastest'] / 1e9:.0f} at best, "
        + ", ".join(
            f"{rate / 1e9:.0f} over those of the {part}" for part, rate in rates.items() if part in PARTS
        )
        for count, rates in case["matrix_flops_per_second"].items()
    )
    return f"Work: {work}. Float32 products of these sizes alone reach (GFLOP/s): {rates}."


def _profile(part: str, profile: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in profile["kinds"].items())
    rows = [[name.removeprefix("aten::"), f"{share:.1%}"] for name, share in profile["operators"].items()]
    lines = [f"Where a call of the {part} spends its {profile['seconds'] * 1000:.0f} ms: {kinds}.", ""]
    return lines + _table(["operator", "share"], rows)


def _times(row: dict[str, Any], kind: str) -> list[str]:
    low, high = row[f"{kind}_quartiles"]
    cells = [f"{row[f'{kind}_seconds']:.3f} ({low:.3f} to {high:.3f})"]
    for part in PARTS:
        times = row["parts"][part]
        share = times.get(f"{kind}_share_of_limit")
        cells.append(f"{times[f'{kind}_seconds']:.3f}" + ("" if share is None else f", {share:.0%}"))
    return cells


def _ratio(speedup: float | None) -> str:
    return "1" if speedup is None else f"{speedup:.2f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table whose columns line up also where nothing renders it."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in cells
    ]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]
