"""HTML pages that need no network: what `report`, `view` and `tune` write.

document.py  a page of sections    html.py      pieces of HTML, all text escaped
chart.py     SVG charts            planes.py    a scan as stacks of slices
overlays.py  slices with outlines    png.py       pictures as PNG files
"""
