"""Running networks from a user's own checkout of a published repository, next to our code and never inside it."""
