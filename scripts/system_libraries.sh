#!/bin/sh
# FFmpeg's shared libraries, which torchcodec needs to read audio, and Chromium with its driver, in which tests open the
# report of an evaluation and go through a listening test. Installs them where it may, else says how; without Chromium
# those tests are skipped.
set -eu

may_install() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]
}

install_command() {
    echo "apt-get update && apt-get install -y --no-install-recommends $*"
}

has_browser() {
    command -v chromedriver >/dev/null 2>&1 || return 1
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null 2>&1; then
            return 0
        fi
    done
    return 1
}

if ! has_browser; then
    if may_install; then
        echo "Installing Chromium and its driver"
        DEBIAN_FRONTEND=noninteractive sh -c "$(install_command chromium chromium-driver fonts-dejavu-core)" >/dev/null || true
    fi
    if ! has_browser; then
        echo "There is no Chromium with chromedriver: the tests that open pages in a browser will be skipped."
    fi
fi

if command -v ffmpeg >/dev/null 2>&1; then
    exit 0
fi
if may_install; then
    echo "Installing FFmpeg"
    DEBIAN_FRONTEND=noninteractive sh -c "$(install_command ffmpeg)" >/dev/null
    exit 0
fi
echo "FFmpeg's libraries are missing: torchcodec needs them to read audio. Install them and call make again:" >&2
if command -v apt-get >/dev/null 2>&1; then
    echo "    sudo sh -c '$(install_command ffmpeg)'" >&2
else
    echo "    conda install -c conda-forge ffmpeg    (or your system's package, e.g. brew install ffmpeg)" >&2
fi
exit 1
