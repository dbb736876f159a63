"""Fine-grained similarities of two sets, all with one call: ``(images, captions) → similarity (images, captions)``."""

from vse_gpo.interaction.hard import HardAssignment, MaxSim
from vse_gpo.interaction.interaction import Interaction
from vse_gpo.interaction.scan import ScanImageToText, ScanTextToImage

__all__ = ["HardAssignment", "Interaction", "MaxSim", "ScanImageToText", "ScanTextToImage"]
