"""Templates to HTML: everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sightline.report.quantities import (
    bytes_text,
    count_text,
    number_text,
    plural,
    share_text,
    size_text,
    time_text,
)
from sightline.report.visible import visible_text


def render_template(name: str, values: Mapping[str, Any]) -> str:
    """A page from a template of this room.

    Args:
        name: File name of the template.
        values: What the template shows.
    """
    environment = Environment(
        loader=PackageLoader("sightline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": bytes_text,
        "count": count_text,
        "number": number_text,
        "share": share_text,
        "size": size_text,
        "time": time_text,
        "visible": visible_text,
    }
    environment.globals["plural"] = plural
    return environment.get_template(name).render(values)
