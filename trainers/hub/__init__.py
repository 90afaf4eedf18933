"""Publishing on the Hub: choice of files, checks before a push, and the model card."""
