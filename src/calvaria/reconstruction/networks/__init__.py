"""Reconstruction networks: the zoo, and a trained network as an engine."""
