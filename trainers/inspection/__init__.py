"""`data2vec inspect`: what a model or a recipe costs before it is trained."""
