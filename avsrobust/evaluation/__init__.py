"""Evaluation: a manifest and an adapter in, sufficient statistics per frame out."""
