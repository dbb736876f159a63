"""Backbones: inputs of one modality → Features."""
