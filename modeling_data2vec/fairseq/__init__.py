"""The authors' checkpoints in fairseq's form: their names and options as ours, and back. No model needs it to run."""
