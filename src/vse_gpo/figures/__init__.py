"""Figures of what poolings have learned and of what models find."""
