"""OHIF at ``/ohif/``, and the DICOMweb service that it reads from at ``/proxy/dicom/``.

Modules:
    files: the files of a built OHIF.
    proxy: requests that are passed on to the DICOMweb service.
    stored: segmentations that OHIF stores in the DICOMweb service.
    routes: the routes of both.
"""
