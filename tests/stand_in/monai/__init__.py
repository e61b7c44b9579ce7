"""Takes MONAI's place on a PYTHONPATH, so that a test of a search takes seconds: see bundle/__main__.py."""
