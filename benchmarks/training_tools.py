"""Who trains: Sightline, two bare loops, and other tools, each by its own command.

All train the same LoRA on the language model's linear layers of the same random model, on the same
rows, as many steps of as many rows, with AdamW, a constant rate, gradients clipped at 1, in
float32, without gradient checkpointing (the tools' own default is to have it), evaluation,
checkpoints in between, or processes that decode. All but the loops write an adapter at the end.
LLaMA-Factory, ms-swift and TRL also learn the line break after an answer, one token of about 62:
their mean loss is lower by 0.005 to 0.007.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from training_work import Job

HERE = Path(__file__).parent
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # ms-swift asks another hub otherwise.
    "USE_HF": "1",
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    **OFFLINE,
}
LIMIT = 3600.0


class Command(NamedTuple):
    """A command that came to its end.

    Attributes:
        seconds: From its start to its end.
        peak: Peak memory of the largest of its processes, bytes.
        output: What it wrote to standard output.
    """

    seconds: float
    peak: int
    output: str


class Trained(NamedTuple):
    """What a contender says of its training.

    Attributes:
        seconds: From training's start to its end.
        loss: Mean of the steps' losses.
        trained: Numbers that train; None where it does not say.
    """

    seconds: float
    loss: float
    trained: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One who trains.

    Attributes:
        name: What it is called in tables.
        command: Its command for a job and a folder for what it writes.
        read: What it said, from the folder and its standard output.
        whole: Whether the command is one that a person would give.
        versions: Packages whose versions count, and the Python that has them.
    """

    name: str
    command: Callable[[Job, Path], Sequence[str]]
    read: Callable[[Path, str], Trained]
    whole: bool = True
    python: str = sys.executable
    packages: tuple[str, ...] = ("torch", "transformers", "peft")


def run_command(
    command: Sequence[str],
    folder: Path,
    *,
    inside: Path | None = None,
    environment: Mapping[str, str] = ONE_THREAD,
    limit: float = LIMIT,
) -> Command:
    """Run a command to its end.

    Args:
        command: The command.
        folder: What it says is written here.
        inside: Its working directory; None for ``folder``.
        environment: What is set for it beside what is set here.
        limit: It is ended after so many seconds.

    Raises:
        SystemExit: It failed; with the end of what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=stdout,
            stderr=stderr,
            cwd=inside or folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = err.read_text(errors="replace")[-3000:] + out.read_text(errors="replace")[-1000:]
        raise SystemExit(f"{' '.join(map(str, command))[:300]}: {process.returncode}\n{said}")
    return Command(seconds, usage.ru_maxrss * 1024, out.read_text(errors="replace"))


def end_with_children() -> None:
    """Let SIGTERM end what runs, too: it runs in a session of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def turn(contender: Contender, job: Job) -> tuple[Trained, Command]:
    """Let a contender train once; what it wrote is removed."""
    folder = job.work / f"turn-{re.sub('[^a-z]', '', contender.name.lower())}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # ms-swift looks for pictures in the working directory.
    ran = run_command(contender.command(job, folder), folder, inside=job.data)
    trained = contender.read(folder, ran.output)
    shutil.rmtree(folder)
    return trained, ran


def own_memory() -> int:
    """Peak memory of this process: a child's is never told as less."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def versions_of(contender: Contender) -> str:
    """Versions of the packages that count."""
    code = "import sys; from importlib.metadata import version\n"
    code += "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    command = [contender.python, "-c", code, *contender.packages]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _last_line(_: Path, output: str) -> Trained:
    said = json.loads(output.splitlines()[-1])
    return Trained(said["seconds"], said["loss"], said["trained"])


def loop(kind: str) -> Contender:
    """A bare loop of training_loops.py."""

    def command(job: Job, _: Path) -> Sequence[str]:
        loops = str(HERE / "training_loops.py")
        return [sys.executable, loops, kind, json.dumps(job.record())]

    return Contender(name=f"{kind} loop", command=command, read=_last_line, whole=False)


def sightline_config(job: Job, folder: Path, **changes: Any) -> dict[str, Any]:
    """The run configuration of a job.

    Args:
        job: What is trained.
        folder: Where the run directory comes.
        **changes: Keys of the section training.
    """
    training = {
        "epochs": job.epochs,
        "learning_rate": job.rate,
        "scheduler": "constant",
        "warmup_ratio": 0.0,
        "batch_size": job.batch,
        "gradient_accumulation": 1,
        "gradient_checkpointing": False,
        "precision": "fp32",
        "save_every": 1_000_000,
    }
    return {
        "model": str(job.model),
        "data": {
            "train": str(job.data / "train.jsonl"),
            "images": {"max_pixels": job.max_pixels},
            "max_length": job.max_length,
            "processes": 1,
        },
        "tuning": {
            "language": "lora",
            "projector": "freeze",
            "vision": "freeze",
            "lora": {"rank": job.rank, "alpha": 2 * job.rank},
        },
        "training": {key: value for key, value in (training | changes).items() if value != "unset"},
        "verify": {"enabled": False},
        "export": {"merged": False},
        "output": str(folder / "run"),
    }


def sightline(name: str = "Sightline", *options: str, **changes: Any) -> Contender:
    """``sightline train``.

    Args:
        name: What it is called in tables.
        *options: More of the command.
        **changes: Keys of the section training; ``unset`` leaves one at its default.
    """

    def command(job: Job, folder: Path) -> Sequence[str]:
        config = folder / "run.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(sightline_config(job, folder, **changes)))
        return [sys.executable, "-m", "sightline", "train", str(config), *options]

    def read(folder: Path, _: str) -> Trained:
        state = json.loads((folder / "run" / "run.json").read_text())
        plan = json.loads((folder / "run" / "plan.json").read_text())
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
        mean = sum(losses) / len(losses)
        return Trained(state["seconds"], mean, plan["totals"]["num_trainable"])

    return Contender(name=name, command=command, read=read)


def llamafactory(python: str) -> Contender:
    """``llamafactory-cli train``."""

    def command(job: Job, folder: Path) -> Sequence[str]:
        config = {
            "model_name_or_path": str(job.model),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": job.rank,
            "lora_alpha": 2 * job.rank,
            "lora_target": ",".join(LINEARS),
            "dataset": "shapes",
            "dataset_dir": str(job.data),
            "template": "qwen2_vl",
            "cutoff_len": job.max_length,
            "image_max_pixels": job.max_pixels,
            "overwrite_cache": True,
            "preprocessing_num_workers": 1,
            "dataloader_num_workers": 0,
            "per_device_train_batch_size": job.batch,
            "gradient_accumulation_steps": 1,
            "learning_rate": job.rate,
            "lr_scheduler_type": "constant",
            "num_train_epochs": job.epochs,
            "disable_gradient_checkpointing": True,
            "bf16": False,
            "fp16": False,
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "output_dir": str(folder / "out"),
        }
        (folder / "run.yaml").write_text(json.dumps(config))
        return [str(Path(python).parent / "llamafactory-cli"), "train", str(folder / "run.yaml")]

    def read(folder: Path, _: str) -> Trained:
        results = json.loads((folder / "out" / "all_results.json").read_text())
        said = (folder / "stderr.txt").read_text() + (folder / "stdout.txt").read_text()
        found = re.search(r"trainable params: ([\d,]+)", said)
        trained = int(found[1].replace(",", "")) if found else None
        return Trained(results["train_runtime"], results["train_loss"], trained)

    packages = ("llamafactory", "torch", "transformers", "peft")
    return Contender(
        name="LLaMA-Factory", command=command, read=read, python=python, packages=packages
    )


def ms_swift(python: str) -> Contender:
    """``swift sft``."""

    def command(job: Job, folder: Path) -> Sequence[str]:
        given = {
            "model": job.model,
            "model_type": "qwen2_5_vl",
            "template": "qwen2_5_vl",
            "dataset": job.data / "train.jsonl",
            "tuner_type": "lora",
            "lora_rank": job.rank,
            "lora_alpha": 2 * job.rank,
            "lora_dropout": 0,
            "target_modules": "all-linear",
            "torch_dtype": "float32",
            "bf16": False,
            "fp16": False,
            "max_length": job.max_length,
            "max_pixels": job.max_pixels,
            "num_train_epochs": job.epochs,
            "per_device_train_batch_size": job.batch,
            "gradient_accumulation_steps": 1,
            "learning_rate": job.rate,
            "lr_scheduler_type": "constant",
            "gradient_checkpointing": False,
            "dataloader_num_workers": 0,
            "dataset_num_proc": 1,
            "save_strategy": "no",
            "eval_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "output_dir": folder / "out",
            "add_version": False,
        }
        options = [str(part) for key, value in given.items() for part in (f"--{key}", value)]
        return [str(Path(python).parent / "swift"), "sft", *options]

    def read(folder: Path, _: str) -> Trained:
        text = (folder / "out" / "logging.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        last = next(line for line in reversed(lines) if "train_runtime" in line)
        said = (folder / "stderr.txt").read_text() + (folder / "stdout.txt").read_text()
        found = re.search(r"([\d.]+)M Trainable", said)
        trained = round(float(found[1]) * 1e6) if found else None
        seconds = float(str(last["train_runtime"]).rstrip("s"))
        return Trained(seconds, last["train_loss"], trained)

    packages = ("ms-swift", "torch", "transformers", "peft")
    return Contender(name="ms-swift", command=command, read=read, python=python, packages=packages)


def trl(python: str) -> Contender:
    """peers/train_trl.py."""

    def command(job: Job, folder: Path) -> Sequence[str]:
        script = str(HERE / "peers" / "train_trl.py")
        return [python, script, json.dumps(job.record()), str(folder / "out")]

    packages = ("trl", "torch", "transformers", "peft")
    return Contender(name="TRL", command=command, read=_last_line, python=python, packages=packages)


PEERS = {"llamafactory": llamafactory, "swift": ms_swift, "trl": trl}
