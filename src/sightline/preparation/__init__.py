"""From a configuration and a checkpoint to the samples of a run, before a weight is loaded."""

from sightline.preparation.packing import is_packed
from sightline.preparation.prepare import (
    PlannedData,
    PreparedData,
    data_record,
    index_folder,
    make_encoder,
    prepare_data,
    prepare_sample,
)

__all__ = [
    "PlannedData",
    "PreparedData",
    "data_record",
    "index_folder",
    "is_packed",
    "make_encoder",
    "prepare_data",
    "prepare_sample",
]
