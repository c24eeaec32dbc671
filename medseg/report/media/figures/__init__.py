"""Figures: pictures of cases as PNG data URIs with alt texts.

Modules:
    case: image, reference, prediction and errors of one case.
    methods: one case as several methods segmented it.
    object_matches: found, missed and false objects of one case.
    objects: objects with boxes, classes and scores.
    prompts: one object that was segmented by prompts.
"""
