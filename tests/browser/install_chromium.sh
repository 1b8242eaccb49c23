#!/bin/sh
# Install Chromium and a CJK font with apt, where they are missing and apt may be used. Never fails: the browser
# tests report a missing browser themselves (tests/browser/conftest.py).

missing=""
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing=" chromium"
fc-list :lang=zh 2>/dev/null | grep -q . || missing="$missing fonts-noto-cjk"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "== Not installed:$missing (no apt-get here). Without Chromium the browser tests are skipped."
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  as_root="env"
elif sudo -n true 2>/dev/null; then
  as_root="sudo -n env"
else
  echo "== Not installed:$missing (neither root nor sudo without a password). Without Chromium the browser tests are" \
    "skipped; to run them: sudo apt-get install$missing"
  exit 0
fi

echo "== apt-get install$missing"
# shellcheck disable=SC2086  # both variables hold several words
$as_root apt-get update -qq &&
  $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null ||
  echo "== apt-get failed: the browser tests go without$missing"
