"""Samples of a run as the model will see them, for the page of ``sightline preview``."""

from sightline.preparation.preview.build import preview_data

__all__ = ["preview_data"]
