"""Repainting with an exported model: numpy, Pillow and onnxruntime, nothing else."""
