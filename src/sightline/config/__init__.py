"""The run configuration: frozen, validated, every key explained. No torch."""

from sightline.config.data import MAX_FILE_PIXELS, DataConfig, ImageConfig, Policy, VideoConfig
from sightline.config.evaluation import LOWEST, EvaluationConfig, Measure
from sightline.config.explain import Row, example_yaml, explain, key_names
from sightline.config.load import dump_config, load_config
from sightline.config.rehearsal import rehearsal_config
from sightline.config.schema import ExportConfig, RunConfig
from sightline.config.sources import (
    BoxLayout,
    Columns,
    Source,
    SourceFormat,
    Tags,
    Template,
    TextBoxes,
)
from sightline.config.training import Tracker, TrainingConfig, VerifyConfig
from sightline.config.tuning import (
    PLATEAU,
    TOWER_NAMES,
    Kind,
    LoraSettings,
    Mode,
    Part,
    PartSettings,
    Quantization,
    Stage,
    TowerName,
    TowerSettings,
    TuningConfig,
)

__all__ = [
    "LOWEST",
    "MAX_FILE_PIXELS",
    "PLATEAU",
    "TOWER_NAMES",
    "BoxLayout",
    "Columns",
    "DataConfig",
    "EvaluationConfig",
    "ExportConfig",
    "ImageConfig",
    "Kind",
    "LoraSettings",
    "Measure",
    "Mode",
    "Part",
    "PartSettings",
    "Policy",
    "Quantization",
    "Row",
    "RunConfig",
    "Source",
    "SourceFormat",
    "Stage",
    "Tags",
    "Template",
    "TextBoxes",
    "TowerName",
    "TowerSettings",
    "Tracker",
    "TrainingConfig",
    "TuningConfig",
    "VerifyConfig",
    "VideoConfig",
    "dump_config",
    "example_yaml",
    "explain",
    "key_names",
    "load_config",
    "rehearsal_config",
]
