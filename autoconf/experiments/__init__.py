"""Runs of a bundle on datalists, compared: tune, crossval, efficiency.

setup.py      bundle, plan and datalist of an experiment, checked and remembered
sealed.py     the datalist without its testing list
training.py   one training run and its score on the fold that it did not see
"""
