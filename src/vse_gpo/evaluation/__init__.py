"""Encode a split, score it by every protocol, compare, and show what came of it."""
