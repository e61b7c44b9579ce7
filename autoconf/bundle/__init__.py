"""What a bundle is to autoconf: folders, files and processes. Nothing here imports a bundle.

settings.py   which keys a plan may set
rules.py      which values a setting may have
overrides.py  override files: a value, its reason, what was rejected
runs.py       one `python -m monai.bundle run ...`, watched
progress.py   what a training writes about its epochs
tables.py     what a run writes of its progress and its scores, while it runs
"""
