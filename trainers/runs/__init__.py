"""What pretraining and fine-tuning share: arguments, checkpoints, resuming, signals, pushes."""
