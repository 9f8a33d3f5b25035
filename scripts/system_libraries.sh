#!/bin/sh
# FFmpeg's shared libraries, which torchcodec needs to read audio. Installs them where it may, else says how.
set -eu

if command -v ffmpeg >/dev/null 2>&1; then
    exit 0
fi
install="apt-get update && apt-get install -y --no-install-recommends ffmpeg"
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing FFmpeg"
    DEBIAN_FRONTEND=noninteractive sh -c "$install" >/dev/null
    exit 0
fi
echo "FFmpeg's libraries are missing: torchcodec needs them to read audio. Install them and call make again:" >&2
if command -v apt-get >/dev/null 2>&1; then
    echo "    sudo sh -c '$install'" >&2
else
    echo "    conda install -c conda-forge ffmpeg    (or your system's package, e.g. brew install ffmpeg)" >&2
fi
exit 1
