"""The embedded data set: scenes, their drawing, the grammar of their captions."""

from vse_gpo.data.shapes.dataset import ShapesDataset
from vse_gpo.data.shapes.grammar import GrammarWords

__all__ = ["GrammarWords", "ShapesDataset"]
