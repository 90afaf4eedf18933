"""Samples, and batches of them: what every modality's data go through."""
