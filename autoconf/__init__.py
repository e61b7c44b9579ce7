"""Plan, inspect and score brain-tumour segmentation: the commands beside the MONAI bundles. See `python -m autoconf`."""

__version__ = "0.1.0"
