#!/usr/bin/env bash
# Serve bundles to 3D Slicer by MONAI Label, to this machine alone:  label/start.sh [--port N] BUNDLE... STUDIES
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${LABEL_VENV:-$here/.venv}/bin/python"
if [ ! -x "$python" ]; then
    echo "start: no environment in ${LABEL_VENV:-$here/.venv}. Run $here/install.sh first." >&2
    exit 1
fi
exec "$python" "$here/start.py" "$@"
