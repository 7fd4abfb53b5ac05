"""Checks of a finished run, each in a file of its own, each with a finding."""

from sightline.checks.finding import Finding, verdict
from sightline.checks.verify import verify_run

__all__ = ["Finding", "verdict", "verify_run"]
