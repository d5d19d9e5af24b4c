"""AVSBench on disk: readers that turn each layout into one table of clips."""
