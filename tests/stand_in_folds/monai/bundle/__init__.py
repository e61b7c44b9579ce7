"""As above."""
