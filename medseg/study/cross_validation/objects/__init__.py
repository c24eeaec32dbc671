"""Cross-validation of networks that tell objects apart.

Modules:
    decoding: the thresholds that held-out cases and the ensemble are decoded with.
    output: tables, summary and report.
    run: what is done, in order.
    scores: predictions compared with references.
"""
