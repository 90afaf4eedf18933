"""What frozen features are worth: features, probes, baselines, similarity, pictures."""
