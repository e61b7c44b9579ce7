"""What a data folder holds: files, scans, patients, label values. Nothing here decides or writes a result.

layouts/      which files make a scan          labels.py    which label values are tumour
brats.py      names of BraTS files             scans.py     one scan of one patient
volumes.py    one NIfTI file, checked          images.py    2D images, masks, copies
gz.py         gzip, decompressed fast          convert.py   arrays and .mha become NIfTI
measure.py    sizes and intensities of a case  counts.py    how often each value occurs
cache.py      what is known of unchanged files traits.py    what tells one scan from another
audit.py      what is odd, across cases        problems.py  the findings as a table
measured.py   what is kept of a measured case  split.py     who trains, validates, tests
"""
