"""What trains, how and when: from a plan in words to a proven table of every parameter."""

from sightline.tuning.apply import (
    NamedParameter,
    apply_plan,
    enter_stage,
    lora_config,
    named_parameters,
    owner_of,
    refuse_unlike_plan,
    trained_parameters,
)
from sightline.tuning.plan import PlannedModule, PlannedStage, TuningPlan
from sightline.tuning.quantizing import quantized_modules
from sightline.tuning.resolve import resolve_plan
from sightline.tuning.selection import TargetHits
from sightline.tuning.table import PlanRow, plan_record, plan_rows
from sightline.tuning.towers import TOWERS, Place, Tower, place_of

__all__ = [
    "TOWERS",
    "NamedParameter",
    "Place",
    "PlanRow",
    "PlannedModule",
    "PlannedStage",
    "TargetHits",
    "Tower",
    "TuningPlan",
    "apply_plan",
    "enter_stage",
    "lora_config",
    "named_parameters",
    "owner_of",
    "place_of",
    "plan_record",
    "plan_rows",
    "quantized_modules",
    "refuse_unlike_plan",
    "resolve_plan",
    "trained_parameters",
]
