"""Robustness and interpretability of spiking transformers."""
