"""Tasks of fine-tuning: model, labels, samples, batches and figures of each."""
