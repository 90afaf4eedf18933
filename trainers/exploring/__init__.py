"""`data2vec explore`: a page to look at a model, with samples of one's own."""
