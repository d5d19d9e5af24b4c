"""Semantic segmentation: one of 71 classes for each pixel."""
