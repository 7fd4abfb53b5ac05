"""Importers of other tools' configurations and data set declarations."""

from sightline.interop.llamafactory import Declaration, expand_sources, resolve_declaration

__all__ = ["Declaration", "expand_sources", "resolve_declaration"]
