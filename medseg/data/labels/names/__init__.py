"""Names, colors and terms of labels.

Modules:
    files: names of values, from files that other tools write beside a dataset.
    tables: labels of public datasets (Pascal VOC, Cityscapes, ADE20K, COCO-Stuff).
    terminology: coded terms of labels for DICOM objects.
"""
