"""Models for inference: model files, ensembles and the predictor.

Modules:
    predictor: ``Predictor``, which segments scans with one model or an ensemble.
    model_file: ``model.safetensors``, the weights of a network and the settings to use them.
    ensemble: the mean of several models, one of them on its device, and several in one file.
    published_models: published networks with their weights, labels and preprocessing.
    prediction: prepared inputs, and results.
    protocols: what batch inference requires of a model.
    memory_fallback: smaller batches if memory runs out; ``array_allocation``: arrays larger than memory.
"""
