"""What a run will take on a device, from its plan and its data, before a weight is loaded."""

from sightline.preparation.estimate.devices import DEVICES, NAMES, Device, find_device
from sightline.preparation.estimate.estimate import add_estimate, estimate
from sightline.preparation.estimate.timing import UTILISATION

__all__ = ["DEVICES", "NAMES", "UTILISATION", "Device", "add_estimate", "estimate", "find_device"]
