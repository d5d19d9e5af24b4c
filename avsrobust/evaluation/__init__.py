"""Evaluation: a manifest and an adapter in, sufficient statistics per frame out.

Conventions
    `runner` is the entry, `execution` one evaluation. It reads clips (`batches`, `clip_data`, `sound`), calls the adapter
    (`adapters.calling`; `consistency` tries it first), scores its masks (`scoring`), and stores the statistics: `planning`
    decides which rows are due, from `existing_results` of the model that `model_key` (with `adapter_source`) identifies; `parts`
    holds finished clips until `publishing` puts everything together, with `extras` and the record `provenance`.
    `robust_dataset` serves the same clips to loops of the user's own.
"""
