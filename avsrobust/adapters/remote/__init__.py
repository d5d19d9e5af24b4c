"""Code for other environments: `avsrobust_worker.py` alone, which imports nothing of avsrobust."""
