"""Anomaly localization in medical images by classifier-free-guidance diffusion."""

__version__ = "0.1.0"
