"""Runs of a bundle on datalists, compared: tune, crossval, efficiency."""
