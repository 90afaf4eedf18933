"""Recipes: hyperparameters as data, checked when they are read; what the authors published."""
