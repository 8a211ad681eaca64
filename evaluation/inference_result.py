"""What `benchmark inference` measured of a case, and what JSON says of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.contenders import CPU, PARTS, WALL
from evaluation.limits import Limit
from pipelines.canvas import to_pixels
from pipelines.request import GenerationRequest
from training.measures import psnr


@dataclass
class Drawn:
    """What the pictures of one contender took, (3, 2) each by PARTS and clock, and how near they are."""

    ran_on: str = ""
    seconds: dict[int, list[NDArray[np.float64]]] = field(default_factory=dict)  # by number of threads
    psnr_db: list[float] = field(default_factory=list)  # to the reference
    differences: list[int] = field(default_factory=list)  # the largest of each picture, of 255
    peak_bytes: int | None = None


@dataclass
class CaseResult:
    """What is known of a case so far: it may be stopped at any time."""

    request: GenerationRequest
    drawn: dict[str, Drawn] = field(default_factory=dict)
    limits: dict[int, dict[str, Limit]] = field(default_factory=dict)  # by number of threads and part
    profiles: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # engines, and why


def compare(drawn: Drawn, images: Sequence[Image.Image], references: Sequence[Image.Image]) -> None:
    """Add how near each picture is to the reference's; 100 dB where no pixel differs."""
    for image, reference in zip(images, references, strict=True):
        ours, theirs = np.asarray(image), np.asarray(reference)
        drawn.differences.append(int(abs(ours.astype(int) - theirs).max()))
        drawn.psnr_db.append(float(psnr(to_pixels(ours), to_pixels(theirs))))


def summary(result: CaseResult, threads: int) -> dict[str, Any]:
    """A case as JSON has it: medians, processor time on 1 thread (cpu) and wall time on `threads` (wall)."""
    request, limits = result.request, result.limits.get(1, {})
    reference, *engines = (
        (name, _summary_of(drawn, result.limits, request.steps, threads))
        for name, drawn in result.drawn.items()
    )
    for name, row in engines:
        drawn = result.drawn[name]
        for kind, key in (("wall", "speedup"), ("cpu", "cpu_speedup")):
            if f"{kind}_seconds" in reference[1] and row.get(f"{kind}_seconds"):  # the clock has moved
                row[key] = reference[1][f"{kind}_seconds"] / row[f"{kind}_seconds"]
        if drawn.psnr_db:
            row["psnr_median_db"] = float(np.median(drawn.psnr_db))
            row["psnr_min_db"] = min(drawn.psnr_db)
            row["max_abs_255"] = max(drawn.differences)
    return {
        "width": request.width,
        "height": request.height,
        "batch": request.count,
        "steps": request.steps,
        "sampler": request.sampler,
        "guidance_scale": request.guidance_scale,
        "reference": reference[1],
        "engines": dict(engines),
        "skipped": result.skipped,
        "flops": {part: limit.flops for part, limit in limits.items()},
        "matrix_flops_per_second": {
            str(count): {"fastest": _matrix_rate(parts)}
            | {part: limit.flops_per_second for part, limit in parts.items()}
            for count, parts in result.limits.items()
        },
        "profile": result.profiles,
    }


def _summary_of(
    drawn: Drawn, limits: dict[int, dict[str, Limit]], steps: int, threads: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"ran_on": drawn.ran_on, "parts": {part: {} for part in PARTS}}
    for kind, count, clock in (("wall", threads, WALL), ("cpu", 1, CPU)):
        if count not in drawn.seconds:
            continue
        seconds = np.stack(drawn.seconds[count])[:, :, clock]  # (pictures, 3)
        row[f"{kind}_seconds"] = float(np.median(seconds.sum(1)))
        row[f"{kind}_quartiles"] = np.quantile(seconds.sum(1), [0.25, 0.75]).tolist()
        row[f"{kind}_pictures"] = len(seconds)
        for part, median in zip(PARTS, np.median(seconds, 0), strict=True):
            row["parts"][part][f"{kind}_seconds"] = float(median)
            if part in limits.get(count, {}) and median:
                work = limits[count][part].flops * (steps if part == "unet" else 1)
                row["parts"][part][f"{kind}_share_of_limit"] = (
                    work / float(median) / _matrix_rate(limits[count])
                )
    if drawn.peak_bytes is not None:
        row["peak_bytes"] = drawn.peak_bytes
    return row


def _matrix_rate(limits: dict[str, Limit]) -> float:
    """Operations a second of the fastest product that a case has: what this machine can do at such sizes."""
    return max(limit.fastest for limit in limits.values())
