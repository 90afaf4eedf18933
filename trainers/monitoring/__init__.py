"""Figures to watch while a model trains: health, figures by modality, curves."""
