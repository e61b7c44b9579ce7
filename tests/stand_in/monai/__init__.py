"""Takes MONAI's place on a PYTHONPATH where a test is about who runs what: see bundle/__main__.py."""
