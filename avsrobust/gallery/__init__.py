"""Clips to look at and listen to: frames, masks and sounds of evaluated builds, for the page and as files."""
