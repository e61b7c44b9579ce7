"""The commands beside the MONAI bundles: inspect the data, plan the training, score the masks."""

__version__ = "0.1.0"
