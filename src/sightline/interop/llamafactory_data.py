"""The data keys of a LLaMA-Factory training file as sources of ``data``."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sightline.interop.given_values import as_int, as_list, as_processes, as_text
from sightline.interop.ledger import Ledger, Rule
from sightline.interop.mapping_file import read_mapping


def carry_data(ledger: Ledger) -> None:
    """Carry the data sets over, with their media folder, limit, mix and processes.

    Raises:
        ConfigError: No data set is named, or the declaration does not have it.
    """
    given_folder = ledger.take("dataset_dir", as_text)
    folder_name = given_folder or "data"
    media = ledger.take("media_dir", as_text)
    limit = ledger.take("max_samples", as_int)
    root = None if media is None else ledger.path(ledger.found(media))
    extra = {} if root is None else {"media_root": root}
    for key, target in (("dataset", "data.train"), ("eval_dataset", "data.eval")):
        names = ledger.take(key, as_list) or []
        if key == "dataset" and not names:
            raise ledger.error(key, "no data set is named.", "Write dataset: NAME there.")
        sources = [_source(ledger, key, name, folder_name) | extra for name in names]
        if sources:
            ledger.put(target, sources)
        for index, (name, source) in enumerate(zip(names, sources, strict=True)):
            place, note = _say_source(ledger, source, folder_name)
            ledger.row(key, name, f"{target}[{index}]", place, "carried", note)
            if limit is not None:
                _limit(ledger, source, limit, f"{target}[{index}]", folder_name)
    if given_folder is not None and given_folder != "ONLINE":
        declaration = ledger.path(ledger.found(given_folder) / "dataset_info.json")
        ledger.row("dataset_dir", given_folder, "data.train[].path", declaration, "carried", "")
    if root is not None:
        ledger.row("media_dir", media, "data.train[].media_root", root, "carried", "")
    _carry_mixing(ledger)
    ledger.carry("preprocessing_num_workers", Rule("data.processes", as_processes))


def _source(ledger: Ledger, key: str, name: str, folder_name: str) -> dict[str, Any]:
    if folder_name == "ONLINE":
        return {"hub": name}
    declaration = ledger.found(folder_name) / "dataset_info.json"
    if declaration.is_file():
        declared = read_mapping(declaration)
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ledger.error(
                key,
                f"{declaration} declares no {name!r}.{hint}",
                f"It declares {', '.join(declared) or 'nothing'}.",
            )
    return {"path": ledger.path(declaration), "name": name}


def _limit(
    ledger: Ledger, source: dict[str, Any], limit: int, place: str, folder_name: str
) -> None:
    """Carry max_samples over to one source: theirs is a bound, ours repeats a smaller one."""
    name = source.get("name")
    rows = None if name is None else _num_rows(ledger.found(folder_name), name)
    if rows is not None and rows <= limit:
        note = f"It has {rows} rows, which is all of it; num_samples would repeat them."
        ledger.row("max_samples", limit, f"{place}.num_samples", None, "carried", note)
        return
    source["num_samples"] = limit
    note = "Theirs are the first rows; here the seed chooses them."
    if rows is None:
        note += " A source with fewer is repeated up to it here: then remove num_samples."
    ledger.row("max_samples", limit, f"{place}.num_samples", limit, "differs", note)


def _num_rows(folder: Path, name: str) -> int | None:
    """Rows of a declared .json or .jsonl file; None where it is not there or no such file."""
    try:
        entry = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8-sig"))[name]
        file = folder / entry["file_name"]
        if file.suffix == ".jsonl":
            with file.open("rb") as lines:
                return sum(1 for line in lines if line.strip())
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, KeyError, TypeError):
        # What is wrong with the file is said when the run reads it; here it is only not counted.
        return None
    return len(rows) if isinstance(rows, list) else None


def _say_source(ledger: Ledger, source: dict[str, Any], folder_name: str) -> tuple[str, str]:
    if "hub" in source:
        return f"hub: {source['hub']}", "From the hub, as dataset_dir ONLINE says."
    missing = not (ledger.found(folder_name) / "dataset_info.json").is_file()
    note = "There is no such file yet: correct the path." if missing else ""
    return f"{source['path']}, name {source['name']}", note


def _carry_mixing(ledger: Ledger) -> None:
    strategy = ledger.take("mix_strategy", as_text)
    shares = ledger.take("interleave_probs")
    if strategy is not None and strategy != "concat":
        note = "Data sets are always joined and shuffled; weight of a source changes its share."
        ledger.row("mix_strategy", strategy, "data.train[].weight", 1.0, "differs", note)
    elif strategy is not None:
        ledger.none("mix_strategy", strategy, "Data sets are always joined and shuffled here.")
    if shares is not None:
        note = (
            "Shares of the mix there; weight is passes over a source here. For a share p of N "
            "samples in all, set the weight of a source of n rows to p x N / n."
        )
        ledger.row("interleave_probs", shares, "data.train[].weight", 1.0, "differs", note)
