"""Inference: apply trained networks to scans.

``model`` has the model file, ensembles and the ``Predictor``; ``sliding_window`` computes logits window by
window; ``batch`` segments many cases and writes output folders; ``backends`` run networks outside of torch.
``options`` has the settings ``inference``, ``postprocessing`` the steps on label maps and
``postprocessing_search`` their choice on validation cases; ``feature_maps`` extracts activations.
"""
