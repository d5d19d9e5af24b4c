"""Exports: results for experiment trackers and notebooks, models and builds for Hugging Face, builds described in Croissant.

Conventions
    Everything is written to local files. Nothing is sent anywhere, unless the user names a server of MLflow by its address.
    Nothing that is there is replaced. What other programs show is made inert first (`avsrobust.inert`).
"""
