"""Sightline: fine-tune M-RoPE vision-language models and prove that the result is right.

What is listed here is what other programs may build on; ``docs/api.md`` shows each at work. It is
loaded when it is asked for, so that ``import sightline`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Where each name lives. `__init__.pyi` says the same to type checkers.
_HOMES = {
    "MRotaryEmbedding": "rotary",
    "RunConfig": "config",
    "SightlineError": "errors",
    "apply_plan": "tuning",
    "follow_engine": "model",
    "get_rope_index": "positions",
    "load_config": "config",
    "load_weights": "model",
    "make_encoder": "preparation",
    "make_tiny_model": "model",
    "mrope_positions": "positions",
    "open_checkpoint": "model",
    "prepare_data": "preparation",
    "read_source": "data",
    "resolve_plan": "tuning",
    "train": "training",
    "verify_run": "checks.verify",
}

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name, from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
