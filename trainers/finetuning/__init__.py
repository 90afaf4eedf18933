"""`data2vec finetune`: the trainer, what may be trained, and one run."""
