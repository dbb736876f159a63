"""Encode a split, score it by every protocol, compare models and show the results."""
