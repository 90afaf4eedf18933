"""Pictures and recordings, decoded and augmented."""
