"""Shared by pretraining and fine-tuning: arguments, checkpoints, resuming, signals, pushes."""
