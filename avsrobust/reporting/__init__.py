"""Reports and comparisons: from stored results to tables and pages."""
