"""The kernel's counters of processes that it ended for lack of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.launching.oom_killer import num_oom_kills

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"


def counted(tmp_path: Path, groups: str, file: str, content: str) -> int | None:
    (tmp_path / "cgroup").write_text(groups)
    path = tmp_path / "fs" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return num_oom_kills(tmp_path / "cgroup", tmp_path / "fs")


@pytest.mark.parametrize(
    ("groups", "file", "content", "count"),
    [
        ("0::/user/job\n", "user/job/memory.events", EVENTS, 2),
        ("0::/outside/the/container\n", "memory.events", EVENTS, 2),
        (
            "4:cpu:/a\n7:memory:/a\n",
            "memory/a/memory.oom_control",
            "under_oom 0\noom_kill 5\n",
            5,
        ),
        ("0::/user/job\n", "user/job/memory.events", "low 0\n", None),
        ("4:cpu:/a\n", "memory.events", EVENTS, None),
    ],
)
def test_counters(tmp_path: Path, groups: str, file: str, content: str, count: int | None) -> None:
    assert counted(tmp_path, groups, file, content) == count


def test_where_nothing_counts(tmp_path: Path) -> None:
    assert num_oom_kills(tmp_path / "none", tmp_path) is None
