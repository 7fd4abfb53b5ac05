"""Bringing samples under ``max_length`` without a cut through an image or an answer."""

from sightline.data.fit.cutting import Turns, cut
from sightline.data.fit.fitting import FitRules, Fitted, Piece, fit

__all__ = ["FitRules", "Fitted", "Piece", "Turns", "cut", "fit"]
