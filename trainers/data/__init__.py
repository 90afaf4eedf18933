"""Samples and batches, the same for all modalities."""
