"""Models from other forms and to them: the authors' checkpoints, and one joint model of single ones."""
