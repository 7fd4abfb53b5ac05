"""A YAML or JSON file of keys, which LLaMA-Factory and ms-swift both take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.config.read import read_yaml
from sightline.errors import ConfigError


def read_mapping(config: Path) -> dict[str, Any]:
    """The keys of a YAML or JSON file.

    Raises:
        ConfigError: Missing, broken, or not a mapping.
    """
    if config.suffix.lower() != ".json":
        values, _ = read_yaml(config)
        return values
    try:
        values = json.loads(config.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{config}: the file cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{config}: this is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{config}: a {type(values).__name__} is given; a mapping of keys is expected.\n"
            "Name the file that training was started with."
        )
    return values
