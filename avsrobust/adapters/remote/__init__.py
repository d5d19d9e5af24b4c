"""What runs in other environments; only `avsrobust_worker.py`, which stands alone."""
