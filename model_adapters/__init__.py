"""Adapters of model families, one module or folder each."""
