"""What main.py is made of. MONAI Label itself looks for this name."""
