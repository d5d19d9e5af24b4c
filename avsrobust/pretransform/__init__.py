"""Class files: which classes and which cluster each second of a sound belongs to, for models with active queries."""
