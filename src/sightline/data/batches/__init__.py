"""The steps of a run, planned from the sizes of its samples before a pixel is decoded."""

from sightline.data.batches.figures import StepFigures, figures_of, idle_share
from sightline.data.batches.plan import MicroBatch, Step, StepPlan, StepShape
from sightline.data.batches.sizes import CostRates, SampleSizes, costs, sizes_of

__all__ = [
    "CostRates",
    "MicroBatch",
    "SampleSizes",
    "Step",
    "StepFigures",
    "StepPlan",
    "StepShape",
    "costs",
    "figures_of",
    "idle_share",
    "sizes_of",
]
