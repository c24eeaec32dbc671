"""Labels: their names, values and colors, and how label files are read.

Modules:
    schema: ``LabelSchema``, the labels of a dataset, and the encoding of values as class indices.
    config: ``LabelConfig``, the settings ``data.labels``; ``merging`` combines it with what a dataset declares.
    label_plan: ``LabelPlan``, the labels and the reader that result from settings and files.
    reader: ``LabelReader``, which reads the label files of a case on the grid of its image.
    names: names from files, labels of public datasets, coded terms for DICOM objects.
    objects: numbers of objects, from label files, masks and GeoJSON.
    overlapping: schema of labels that may overlap.
    lateral_pairs: labels of the left and right side, which mirror images exchange.
    foreground_values: values that count in statistics of intensities.
    output_values: values in the label maps of a converted dataset.
"""
