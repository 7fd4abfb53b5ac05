"""Checkpoints: opening, loading, running and saving them. The only user of ``Auto*``."""

from sightline.model.adapter import (
    adapter_tensors,
    base_record,
    base_weights,
    load_adapter,
    open_adapter,
    saved_tensors,
)
from sightline.model.checkpoint import (
    Architecture,
    Checkpoint,
    open_architecture,
    open_checkpoint,
)
from sightline.model.compiled import compile_blocks
from sightline.model.export import merge, preparation_record, save_adapter, save_merged
from sightline.model.fingerprint import differing, fingerprint, fingerprints
from sightline.model.load import (
    choose_dtype,
    load_weights,
    resolve_model,
    skeleton,
    tiny_folder,
)
from sightline.model.losses import Supervised, return_losses
from sightline.model.positions import follow_engine
from sightline.model.quantized import (
    QuantizedWeights,
    plain_weight,
    refuse_unquantizable,
    tokens_rounded_alone,
)
from sightline.model.raw_pixels import (
    borrowed_parameters,
    normalised_patches,
    patch_features,
    take_processed_pixels,
    take_raw_pixels,
)
from sightline.model.reference import ReferenceFamily, reference_family
from sightline.model.segments import Segments, attend_by_segments, packed_row, unpackable
from sightline.model.tiny import TINY_FAMILIES, is_tiny, make_tiny_model

__all__ = [
    "TINY_FAMILIES",
    "Architecture",
    "Checkpoint",
    "QuantizedWeights",
    "ReferenceFamily",
    "Segments",
    "Supervised",
    "adapter_tensors",
    "attend_by_segments",
    "base_record",
    "base_weights",
    "borrowed_parameters",
    "choose_dtype",
    "compile_blocks",
    "differing",
    "fingerprint",
    "fingerprints",
    "follow_engine",
    "is_tiny",
    "load_adapter",
    "load_weights",
    "make_tiny_model",
    "merge",
    "normalised_patches",
    "open_adapter",
    "open_architecture",
    "open_checkpoint",
    "packed_row",
    "patch_features",
    "plain_weight",
    "preparation_record",
    "reference_family",
    "refuse_unquantizable",
    "resolve_model",
    "return_losses",
    "save_adapter",
    "save_merged",
    "saved_tensors",
    "skeleton",
    "take_processed_pixels",
    "take_raw_pixels",
    "tiny_folder",
    "tokens_rounded_alone",
    "unpackable",
]
