"""Durations, sizes and other amounts."""

SECONDS = "{seconds} s"
MINUTES = "{minutes} min {seconds} s"
HOURS = "{hours} h {minutes} min"
DATE = "%d %b %Y, %H:%M"
PICTURE_WORDS = "{prompt}, seed {seed}"
PREVIEW_WORDS = "Preview of picture {number} of {count}: {prompt}"


def seconds(value: float) -> str:
    """A duration for a person: "0.8 s", "12 s", "3 min 20 s"."""
    if value < 90:
        return SECONDS.format(seconds=f"{value:.1f}" if value < 10 else f"{value:.0f}")
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return MINUTES.format(minutes=minutes, seconds=rest)
    return HOURS.format(hours=minutes // 60, minutes=minutes % 60)


def size(width: int, height: int) -> str:
    """Pixels, width first."""
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def seconds_left(value: float) -> str:
    """A rough duration, as an estimate deserves: whole seconds."""
    return seconds(value) if value >= 10 else SECONDS.format(seconds=max(1, round(value)))


def parameters(count: int) -> str:
    """A number of parameters: "22.5 M", "860 M", "1.2 B"."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return str(count)


def file_size(size_bytes: int) -> str:
    """A size on the disk: "45.1 MB"."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {letters}"
    return f"{size_bytes / 1e3:.3g} kB"
