"""Drawing images from a diffusion model: unconditional, by class, or guided by a classifier. Knows only protocols."""
