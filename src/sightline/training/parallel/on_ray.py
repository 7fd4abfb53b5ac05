"""The processes of a run as workers of Ray Train, on this machine or on a cluster that is there.

Ray starts them, tells each its rank as torchrun does, and joins them. What they do is a run like
any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError, RunError, SightlineError, first_line

LOCAL = "local"
"""In place of an address: Ray is started on this machine, and ended with the run."""

_PATIENCE_SECONDS = 1800


def work_on_ray(
    work: Callable[[], None], *, num_processes: int, address: str, storage: Path
) -> None:
    """Let so many workers do the same work, each as one rank.

    Each takes a GPU where the cluster has one for every worker, otherwise a CPU. They work in the
    present folder, which has to be at the same place on every machine: the run directory, the data
    and the model are read there.

    Args:
        work: What each does; it finds its rank in the environment.
        num_processes: Workers.
        address: ``local``, ``auto`` for the cluster that this machine belongs to, or one that
            ``ray.init`` takes.
        storage: Folder for what Ray itself writes.

    Raises:
        ConfigError: Ray is not installed.
        RunError: No cluster answers, or it has too little.
        SightlineError: What a worker raised.
    """
    if find_spec("ray") is None:
        raise ConfigError("--ray: Ray is not installed.\npip install 'sightline[ray]'.")
    # By default Ray tells its makers of every cluster that it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = import_module("ray")
    _join(ray, address, num_processes)
    try:
        _work(ray, work, num_processes, storage)
    finally:
        ray.shutdown()


def _join(ray: Any, address: str, num_processes: int) -> None:
    quiet = {"log_to_driver": True, "logging_level": "warning"}
    try:
        if address == LOCAL:
            # One more for Ray's own controller. Processors are counted here, not reserved.
            cpus = max(num_processes + 1, os.cpu_count() or 1)
            ray.init(address=LOCAL, num_cpus=cpus, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(
            f"--ray {address}: no cluster of Ray answers there: {first_line(error)}\n"
            f"Start one (ray start --head), or let --ray {LOCAL} start one here."
        ) from error


def _work(ray: Any, work: Callable[[], None], num_processes: int, storage: Path) -> None:
    train: Any = import_module("ray.train")
    torch_train: Any = import_module("ray.train.torch")
    held = ray.cluster_resources()
    has_gpus = held.get("GPU", 0) >= num_processes
    if not has_gpus and held.get("CPU", 0) < num_processes:
        raise RunError(
            f"{num_processes} processes, and Ray has {held.get('GPU', 0):g} GPUs and "
            f"{held.get('CPU', 0):g} CPUs.\nAsk for fewer, or add machines to the cluster."
        )
    trainer = torch_train.TorchTrainer(
        _in_folder(work, Path.cwd()),
        torch_config=torch_train.TorchConfig(
            backend="nccl" if has_gpus else "gloo", timeout_s=_PATIENCE_SECONDS
        ),
        scaling_config=train.ScalingConfig(num_workers=num_processes, use_gpu=has_gpus),
        run_config=train.RunConfig(name="run", storage_path=str(storage.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise _told(error) from error


def _in_folder(work: Callable[[], None], folder: Path) -> Callable[[], None]:
    def worker() -> None:
        # Ray gives each worker a folder of its own.
        os.chdir(folder)
        work()

    return worker


def _told(error: BaseException) -> SightlineError:
    """What the worker with the lowest rank raised that raised one of ours."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    for _, failure in sorted(failures.items()):
        found: BaseException | None = failure
        while found is not None:
            if isinstance(found, SightlineError):
                return found
            found = getattr(found, "cause", None) or found.__cause__
    if failures:
        rank, failure = min(failures.items())
        return RunError(f"worker {rank} of {len(failures)} that failed: {failure}")
    return RunError(f"Ray ended the run: {error}")
