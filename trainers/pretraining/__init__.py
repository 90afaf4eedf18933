"""`data2vec pretrain`: the trainer with a teacher, and one run from recipe to report."""
