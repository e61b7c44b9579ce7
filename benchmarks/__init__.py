"""What each step costs, against the network's own time and other ways to do it: `python -m benchmarks --help`."""
