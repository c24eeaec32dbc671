"""Exchange with other software: nnU-Net models, ONNX, torch.export and OpenVINO."""
