"""Classifiers of noisy images: they guide a diffusion model to a class, and read what it made."""
