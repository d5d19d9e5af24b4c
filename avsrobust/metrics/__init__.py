"""Metrics of audio-visual segmentation: pure numpy, no files, no models."""
