#!/usr/bin/env bash
# Install MONAI Label in an environment of its own, with exact versions:  label/install.sh [cpu|gpu]
#
# cpu (the default) takes the small build of torch; gpu that of PyPI, with CUDA. Some 3 minutes and 2 GB on a CPU. The
# environment is label/.venv, or $LABEL_VENV; $PYTHON is the Python 3.11 or newer that it is made from.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${LABEL_VENV:-$here/.venv}"
device="${1:-cpu}"
torch="torch==2.13.0"
vision="torchvision==0.28.0"
case "$device" in
    cpu | gpu) ;;
    *) echo "install: '$device' is no device. Say cpu or gpu." >&2; exit 1 ;;
esac
python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "install: $python is older than Python 3.11, or not there. Name another: PYTHON=python3.12 $0" >&2
    exit 1
fi
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" --no-compile; } # compiled when imported: little is
pip install --no-deps --requirement "$here/constraints.txt"
if [ "$device" = gpu ] || ! pip install --retries 0 --timeout 15 --no-deps \
    --index-url https://download.pytorch.org/whl/cpu "$torch" "$vision" 2> /dev/null; then
    # torch with what it needs; torchvision without, for it would bring another torch
    pip install --constraint "$here/constraints.txt" "$torch"
    pip install --no-deps "$vision"
fi
cd "$here/app"
"$venv/bin/python" -W ignore -c "from lib.vision import declare_operators; declare_operators(); import monailabel.tasks.infer.bundle" > /dev/null
echo "install: MONAI Label is in $venv. Next: label/start.sh BUNDLE... STUDIES"
