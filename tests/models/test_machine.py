"""Cores and memory that a process may use, against files as Linux writes them."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.machine import cpu_quota, free_memory_bytes, physical_cores, usable_cores

CORES = st.integers(1, 64)


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in files.items():
        (folder / name.replace("__", ".")).write_text(f"{words}\n")


@given(cores=CORES, threads=st.integers(1, 4), data=st.data())
def test_threads_of_one_core_count_once(
    tmp_path_factory: pytest.TempPathFactory, cores: int, threads: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cpus")
    every = [core + thread * cores for core in range(cores) for thread in range(threads)]
    for cpu in every:
        siblings = ",".join(str(cpu % cores + thread * cores) for thread in range(threads))
        write(folder / f"cpu{cpu}" / "topology", thread_siblings_list=siblings)
    allowed = data.draw(st.sets(st.sampled_from(every), min_size=1))
    assert physical_cores(allowed, folder) == len({cpu % cores for cpu in allowed})


def test_cpus_of_which_the_system_says_nothing_are_cores(tmp_path: Path) -> None:
    assert physical_cores({3, 5, 6}, tmp_path) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be kept to some CPUs")
def test_a_process_kept_to_one_cpu_has_one_core() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("max_", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5)]
)
def test_the_quota_of_a_newer_control_group(tmp_path: Path, max_: str, quota: float | None) -> None:
    write(tmp_path, own="0::/a/b")
    write(tmp_path / "groups" / "a" / "b", cpu__max=max_)
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == quota


def test_the_tightest_quota_of_the_groups_above_counts(tmp_path: Path) -> None:
    write(tmp_path, own="0::/a/b")
    write(tmp_path / "groups" / "a" / "b", cpu__max="400000 100000")
    write(tmp_path / "groups" / "a", cpu__max="200000 100000")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == 2.0


@pytest.mark.parametrize("mounted", ["cpu,cpuacct", "cpu"])
def test_the_quota_of_an_older_control_group_also_within_a_container(tmp_path: Path, mounted: str) -> None:
    write(tmp_path, own="5:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/")
    # A container sees its own group as the root, and the path of it as the host has it.
    write(tmp_path / "groups" / mounted, cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == 2.5
    write(tmp_path / "groups" / mounted, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") is None


def test_memory_is_bounded_by_the_control_group_whose_cached_files_make_room(tmp_path: Path) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    write(tmp_path, own="0::/")
    assert 0 < free_memory_bytes(groups, own) <= psutil.virtual_memory().total
    write(groups, memory__max=3000, memory__current=2500, memory__stat="anon 2000\ninactive_file 400")
    assert free_memory_bytes(groups, own) == 900
    write(groups, memory__max="max")
    assert free_memory_bytes(groups, own) > 2**20


def test_memory_is_bounded_by_an_older_control_group(tmp_path: Path) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    write(tmp_path, own="4:memory:/a\n0::/")
    write(
        groups / "memory" / "a", memory__limit_in_bytes=3000, memory__usage_in_bytes=3500,
        memory__stat="total_inactive_file 100",
    )  # fmt: skip
    assert free_memory_bytes(groups, own) == 0
