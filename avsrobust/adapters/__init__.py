"""Adapters: one AVS model behind the benchmark's interface, and how adapters are found."""
