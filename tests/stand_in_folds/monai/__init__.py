"""Stands in for MONAI where a test is about who runs what, not about what a training computes."""
