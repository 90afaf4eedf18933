"""What a task adds to fine-tuning: its model, labels, samples, batches and figures."""
