"""Templates to HTML: everything that comes from data is escaped, and its hidden signs are shown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sightline.records import without_secrets
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


def render_template(name: str, values: Mapping[str, Any], *, scripts: Sequence[str] = ()) -> str:
    """A page from a template of this room.

    Args:
        name: File name of the template.
        values: What the template shows.
        scripts: File names of the page's scripts. The policy of the page names the hash of each,
            so that a browser runs these and nothing else.
    """
    environment = _environment()
    assert environment.loader is not None
    sources = [environment.loader.get_source(environment, script)[0] for script in scripts]
    page = {
        "scripts": [Markup(source) for source in sources],
        "script_hashes": [script_hash(source) for source in sources],
    }
    return environment.get_template(name).render({**values, **page})


@cache
def _environment() -> Environment:
    """Made once: it keeps the templates that it has compiled."""
    environment = Environment(
        loader=PackageLoader("sightline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
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
    # tojson escapes what could end a script or begin a tag: <, >, & and the apostrophe.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.globals["plural"] = plural
    return environment


def script_hash(source: str) -> str:
    """A script as a Content-Security-Policy names it.

    >>> script_hash("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _shown(value: Any) -> Any:
    """What a template puts into a page: no key, no password, no sign that turns a text or hides."""
    # What is marked as safe is made of texts that went through here.
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = without_secrets(value)
    return shown if shown.isascii() and shown.isprintable() else visible_text(shown)
