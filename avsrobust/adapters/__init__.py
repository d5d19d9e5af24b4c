"""Adapters: one AVS model behind the benchmark's interface (`base`), found by name (`catalogue`, `lookup`).

Conventions
    `calling` is the only code that calls an adapter; `outputs` and `encodings` check what passes, `surroundings` contains the
    side effects. Adapters without a model of their own: `baselines`, `predictions` (with ``prediction_*``), `worker` (with
    `pipes`; its other side is `remote` or `serve`).
"""
