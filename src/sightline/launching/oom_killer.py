"""The kernel's killer for lack of memory: how often it struck in this process's group."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def num_oom_kills(groups: Path = _PROC, root: Path = _ROOT) -> int | None:
    """Processes that the kernel ended for lack of memory, in the smallest group that counts them.

    Args:
        groups: Names the control groups of a process.
        root: Where control groups are mounted.

    Returns:
        The count since the group was made; None where nothing counts it.
    """
    for path in _counters(groups, root):
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        counts = dict(line.split()[:2] for line in lines if " " in line)
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return None


def _counters(groups: Path, root: Path) -> list[Path]:
    """Files that may hold the count: those of version 2, and of version 1's memory controller."""
    try:
        lines = groups.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        inside = name.lstrip("/")
        if controllers == "":
            # In a container the group may be mounted as the root.
            found += [root / inside / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            mounted = root / "memory"
            found += [mounted / inside / "memory.oom_control", mounted / "memory.oom_control"]
    return found
