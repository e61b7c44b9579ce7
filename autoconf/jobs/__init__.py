"""Long work in parts: each part is done by one worker at a time, on this machine or another, and survives its death.

places.py   who works on which part, and who has died
data.py     the data as long work may see them
runs.py     one `python -m monai.bundle run ...`, watched
tables.py   what such a run writes of its progress and its scores
cluster.py  workers as jobs of Slurm, or as processes of this machine
"""
