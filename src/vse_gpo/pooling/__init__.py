"""Poolings, all with one call: ``(features (B,N,D), lengths (B,)) → pooled (B,D)``."""

from vse_gpo.pooling.fixed import First, KMax, Max, Mean
from vse_gpo.pooling.gpo import GPO

__all__ = ["GPO", "First", "KMax", "Max", "Mean"]
