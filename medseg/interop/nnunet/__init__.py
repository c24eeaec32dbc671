"""Run trained models of nnU-Net v2 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

``folder`` reads a trained folder into a header and tensors, ``file`` stores them in one file, and ``predict``
runs either. Arrays in this package are (C, Z, Y, X), the axis order of nnU-Net; so are spacings.
"""
