"""`data2vec export`: a model as one file for onnxruntime or `torch.export`."""
