"""The scripts next to this file run published code from a checkout; pytest has nothing to collect from them."""

collect_ignore_glob = ["make_*.py", "published.py"]
