"""Alarms of a run: what was seen in its metrics, the likely cause, and the remedy in words.

Every kind is a function from the history of a run to the alarms that hold now. Nothing here
touches a tensor. ``docs/watching.md`` lists the thresholds.
"""

from sightline.training.alarms.book import Alarms
from sightline.training.alarms.record import Alarm, History, RunFacts

__all__ = ["Alarm", "Alarms", "History", "RunFacts"]
