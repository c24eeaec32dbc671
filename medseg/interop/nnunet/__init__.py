"""nnU-Net v2's trained models (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), giving its own label maps.

A trained folder becomes a header and tensors (``folder``), which one safe file may hold (``file``);
``predict`` runs either. Arrays here are (C, Z, Y, X), nnU-Net's order; spacings likewise.
"""
