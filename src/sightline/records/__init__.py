"""The run directory and its files. No torch."""

from sightline.records.atomic import (
    atomic_directory,
    atomic_file,
    full_disk_explained,
    write_bytes,
    write_text,
    writing,
)
from sightline.records.claim import claimed, is_at_work, refuse_claimed
from sightline.records.environment import environment_record
from sightline.records.jsonfiles import append_jsonl, read_json, read_jsonl, write_json
from sightline.records.run import RunDirectory
from sightline.records.secrets import shown_address, without_secrets
from sightline.records.versions import collect_versions

__all__ = [
    "RunDirectory",
    "append_jsonl",
    "atomic_directory",
    "atomic_file",
    "claimed",
    "collect_versions",
    "environment_record",
    "full_disk_explained",
    "is_at_work",
    "read_json",
    "read_jsonl",
    "refuse_claimed",
    "shown_address",
    "without_secrets",
    "write_bytes",
    "write_json",
    "write_text",
    "writing",
]
