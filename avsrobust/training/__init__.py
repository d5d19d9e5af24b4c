"""Training a model to listen: negatives, losses, and an engine that continues where it was killed."""
