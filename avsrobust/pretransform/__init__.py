"""Class files: the classes and the cluster of each second of audio, for models with active queries."""
