"""What trains, and how: from a plan in words to a proven table of every parameter."""

from sightline.tuning.apply import apply_plan, named_parameters, refuse_unlike_plan
from sightline.tuning.plan import TuningPlan, resolve_plan, towers_under
from sightline.tuning.table import PlanRow, learning_rate_of, plan_record, plan_rows
from sightline.tuning.towers import TOWERS, Place, Tower, place_of

__all__ = [
    "TOWERS",
    "Place",
    "PlanRow",
    "Tower",
    "TuningPlan",
    "apply_plan",
    "learning_rate_of",
    "named_parameters",
    "place_of",
    "plan_record",
    "plan_rows",
    "refuse_unlike_plan",
    "resolve_plan",
    "towers_under",
]
