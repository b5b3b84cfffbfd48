"""Encoders, fusions, and the model made of them."""
