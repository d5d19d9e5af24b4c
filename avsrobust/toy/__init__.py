"""The procedural data set: scenes, sounds and AVSBench's own layouts, from a seed and nothing else."""
