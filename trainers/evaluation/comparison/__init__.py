"""Several encoders side by side, with intervals, figures and a report."""
