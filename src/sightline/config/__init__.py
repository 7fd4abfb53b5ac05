"""The run configuration: frozen, validated, every key explained. No torch."""

from sightline.config.data import Columns, DataConfig, ImageConfig, Source, Tags, VideoConfig
from sightline.config.explain import Row, example_yaml, explain, key_names
from sightline.config.load import dump_config, load_config
from sightline.config.schema import RunConfig
from sightline.config.training import TrainingConfig, VerifyConfig
from sightline.config.tuning import LoraSettings, Mode, TuningConfig

__all__ = [
    "Columns",
    "DataConfig",
    "ImageConfig",
    "LoraSettings",
    "Mode",
    "Row",
    "RunConfig",
    "Source",
    "Tags",
    "TrainingConfig",
    "TuningConfig",
    "VerifyConfig",
    "VideoConfig",
    "dump_config",
    "example_yaml",
    "explain",
    "key_names",
    "load_config",
]
