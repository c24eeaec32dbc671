"""Data: from files to training samples, and from label maps back to files.

``cases`` and ``scans`` define what the files of a case are and how an image is represented in memory;
``options`` has the settings ``data``. The subpackages are ``io`` (file formats), ``tiled`` (pictures larger
than memory), ``labels`` (values and names of labels), ``layouts`` (folders of datasets), ``curation`` (check,
repair, convert and split datasets), ``preprocessing`` (resampling and normalization), ``augmentation``
(random transforms of patches) and ``loading`` (cache, patch sampling). ``parallel`` runs jobs on
many cases within a memory budget.
"""
