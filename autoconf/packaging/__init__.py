"""What `pack` and `fetch` share: which files a bundle is made of, archives, weights, and configs as text.

contents.py  the files of a bundle      freeze.py   a plan written into its configs, comments kept
archive.py   zip files, written and read with distrust      weights.py  weights as plain tensors
listing.py   what a config would run    probe.py    the network's answer to a test image, in a process of its own
"""
