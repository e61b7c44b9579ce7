"""Run `monai.bundle` with the words of the command line, then say how much memory the process took."""

import fire

if __name__ == "__main__":
    import monai.bundle

    from .worker import peak_mb

    try:
        fire.Fire({"run": monai.bundle.run})
    finally:
        print(f"peak_mb {peak_mb():.0f}", flush=True)
