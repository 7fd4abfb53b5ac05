from sightline.checks.verify import verify_run as verify_run
from sightline.config import RunConfig as RunConfig
from sightline.config import load_config as load_config
from sightline.data import read_source as read_source
from sightline.errors import SightlineError as SightlineError
from sightline.model import follow_engine as follow_engine
from sightline.model import load_weights as load_weights
from sightline.model import make_tiny_model as make_tiny_model
from sightline.model import open_checkpoint as open_checkpoint
from sightline.positions import get_rope_index as get_rope_index
from sightline.positions import mrope_positions as mrope_positions
from sightline.preparation import make_encoder as make_encoder
from sightline.preparation import prepare_data as prepare_data
from sightline.rotary import MRotaryEmbedding as MRotaryEmbedding
from sightline.training import train as train
from sightline.tuning import apply_plan as apply_plan
from sightline.tuning import resolve_plan as resolve_plan

__version__: str
__all__: list[str]
