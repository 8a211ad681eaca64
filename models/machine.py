"""What of this machine the process may use: cores and memory. The standard library, but for the memory."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Physical cores among the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return physical_cores(os.sched_getaffinity(0))
    try:
        import psutil
    except ImportError:  # before the set-up there are no threads to choose for
        return os.cpu_count() or 1
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def physical_cores(cpus: Iterable[int], folder: Path = CPUS) -> int:
    """How many cores these CPUs of Linux are: two of one core share what computes."""
    siblings = {_read(folder / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    return max(1, len(siblings))


def cpu_quota(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> float | None:
    """How many CPUs' time the control groups of this process allow it (containers); None for all."""
    quotas = []
    for folder in _folders("cpu", groups, own):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # "max" and -1 are no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def free_memory_bytes(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Memory that this process can have without anything being swapped out or killed."""
    import psutil

    free = [int(psutil.virtual_memory().available)]
    for folder in _folders("memory", groups, own):
        for limit, used, file in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _read(folder / limit), _read(folder / used)
            if most.isdecimal() and now.isdecimal():
                lines = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
                free.append(int(most) - int(now) + int(lines.get(file, 0)))  # cached files make room
    return max(0, min(free))


def _folders(controller: str, groups: Path, own: Path) -> Iterator[Path]:
    """Where the limits of this process may stand: its group of either kind, and every one above it."""
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root in (groups / controllers, groups / controller) if controllers else (groups,):
            group = root / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
