"""Removing blur: kernels, the blur operator with unknown borders, classical solvers; a prior's solver builds on the same data step."""
