"""What is watched while a model trains: health, figures by modality, curves."""
