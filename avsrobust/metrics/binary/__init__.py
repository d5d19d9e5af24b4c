"""Binary segmentation: foreground against background."""
