"""Captions and images of any form that people have them in: one module for each family of formats."""
