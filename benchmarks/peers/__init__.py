"""Other ways to make the batches that unetr3d trains on: what our own are compared to."""
