"""Long work in parts: each part is done by one worker at a time, on this machine or another, and survives its death.

places.py   who works on which part, and who has died
turns.py    one part after the other, while others work on theirs
sealed.py   the data as long work may see them: without the testing list
cluster.py  workers as jobs of Slurm, or as processes of this machine
"""
