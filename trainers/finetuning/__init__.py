"""`data2vec finetune`: trainer, freezing, adapters and one run."""
