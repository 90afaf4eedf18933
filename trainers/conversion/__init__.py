"""Conversion of the authors' checkpoints to models and back, and one joint model of single ones."""
