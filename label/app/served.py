"""MONAI Label's web server that answers its own pages alone: its default lets every page in a browser read scans."""

from monailabel.config import settings

settings.MONAI_LABEL_CORS_ORIGINS = [f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}"]

from monailabel.app import app  # noqa: E402, F401 - it looks at the settings as it is imported
