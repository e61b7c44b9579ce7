"""Long work in parts: on this machine, on a Dask cluster or under Slurm. docs/how-to/scale.md

parts.py    a part, who works on it, and one process of the bundle for it
engine.py   where parts run: threads of this process, or Dask
work.py     all parts, each when those that it needs are done
"""
