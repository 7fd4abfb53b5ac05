"""The data keys of an ms-swift training as sources of ``data``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.interop.given_values import as_flag, as_int, as_processes, as_text
from sightline.interop.imported import Verdict
from sightline.interop.ledger import Ledger, Rule

_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt")


def carry_data(ledger: Ledger) -> None:
    """Carry the data sets over; those of ModelScope are said to be left out.

    Raises:
        ConfigError: No data set is named that can be read here.
    """
    root = ledger.take("ROOT_IMAGE_DIR", as_text)
    from_hub = any(as_flag(ledger.given.get(key)) for key in ("use_hf", "USE_HF"))
    for key, target in (("dataset", "data.train"), ("val_dataset", "data.eval")):
        sources: list[dict[str, Any]] = []
        for text in _texts(ledger, key):
            made = _sources(ledger, text, root, from_hub)
            if not made:
                note = "From ModelScope, which is not read here: download it and name its folder."
                ledger.none(key, text, note)
            for source, verdict, note in made:
                place = f"{target}[{len(sources)}]"
                named = source.get("path") or f"hub: {source['hub']}"
                ledger.row(key, text, place, named, verdict, note)
                sources.append(source)
        if sources:
            ledger.put(target, sources)
        elif key == "dataset":
            raise ledger.error(
                key,
                "no data set is named that can be read here.",
                "Name a file, a folder or hf::ID there; ms::ID must be downloaded first.",
            )
    ledger.carry("dataset_num_proc", Rule("data.processes", as_processes))


def _texts(ledger: Ledger, key: str) -> list[str]:
    given = ledger.take(key)
    items = [] if given is None else given if isinstance(given, list) else [given]
    return [ledger.convert(key, item, as_text) for item in items]


def _sources(
    ledger: Ledger, text: str, root: str | None, from_hub: bool
) -> list[tuple[dict[str, Any], Verdict, str]]:
    """Sources of one ``--dataset``: none where it is ModelScope's, several for several subsets."""
    place, _, number = text.rpartition("#") if not ledger.found(text).exists() else (text, "", "")
    place = place or number
    number = number if place != number else ""
    extra: dict[str, Any] = {}
    if number:
        extra["num_samples"] = ledger.convert("dataset", number, as_int)
    prefix, _, name = place.rpartition("::")
    file = ledger.found(name)
    if prefix not in ("hf", "ms") and (file.exists() or file.suffix in _SUFFIXES):
        return [_local(ledger, file, name, root, extra)]
    if prefix == "ms" or not (from_hub or prefix == "hf"):
        return []
    name, _, subsets = name.partition(":")
    hub: dict[str, Any] = {"hub": name}
    note = "Its columns are told by their names; look at them with sightline inspect."
    return [
        (hub | ({"subset": subset} if subset else {}) | extra, "carried", note)
        for subset in (subsets.split("/") if subsets else [""])
    ]


def _local(
    ledger: Ledger, file: Path, name: str, root: str | None, extra: dict[str, Any]
) -> tuple[dict[str, Any], Verdict, str]:
    source = {"path": ledger.path(file), "format": "swift"} | extra
    missing = "" if file.exists() else " There is no such file here: correct the path."
    if root is not None:
        source["media_root"] = ledger.path(ledger.found(root))
        return source, "carried", f"media_root is their ROOT_IMAGE_DIR.{missing}"
    if Path(name).expanduser().is_absolute():
        note = (
            "Relative media paths begin at the working directory there, at the data file here: "
            "set media_root if rows have such."
        )
        return source, "differs", note + missing
    working = file
    for _ in Path(name).parts:
        working = working.parent
    source["media_root"] = ledger.path(working)
    return source, "carried", f"media_root is the folder that training started in.{missing}"
