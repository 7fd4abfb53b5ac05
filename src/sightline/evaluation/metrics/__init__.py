"""What is measured of answers. Numbers alone: no model, no torch."""
