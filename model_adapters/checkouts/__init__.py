"""Running networks from a user's own checkout of a published repository, beside our code and never inside it."""
