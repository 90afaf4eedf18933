"""`data2vec transcribe`: recordings of any length as text."""
