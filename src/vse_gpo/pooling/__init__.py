"""Poolings, all with one call: ``(features (B,N,D), lengths (B,)) → pooled (B,D)``."""

from vse_gpo.pooling.contextual import GCN, SelfAttention, Seq2Seq
from vse_gpo.pooling.fixed import First, KMax, Last, Max, Mean
from vse_gpo.pooling.gpo import GPO, GPOFromMax, ResidualGPO
from vse_gpo.pooling.gpo_variants import RankPooling, SizePooling
from vse_gpo.pooling.learned import FSPool, GeM
from vse_gpo.pooling.sets import Pooling

__all__ = [
    "GCN",
    "GPO",
    "FSPool",
    "First",
    "GPOFromMax",
    "GeM",
    "KMax",
    "Last",
    "Max",
    "Mean",
    "Pooling",
    "RankPooling",
    "ResidualGPO",
    "SelfAttention",
    "Seq2Seq",
    "SizePooling",
]
