"""The table that goes into a paper: data sets side by side, chosen metrics, in latex, md and html."""
