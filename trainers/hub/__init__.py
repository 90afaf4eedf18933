"""Publishing on the Hub: what goes there, what is checked before, and the model card."""
