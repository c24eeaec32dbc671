"""Exchange with other software: nnU-Net models, ONNX, torch.export and OpenVINO.

Modules:
    export: a model as a file for another runtime, compared with torch.
    model_loading: models by path, of medseg or nnU-Net.
    panoptic: things and stuff of two models as COCO panoptic files.
    nnunet: reading, importing and running models of nnU-Net.
"""
