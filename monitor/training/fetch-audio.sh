#!/usr/bin/env bash
# Fetches what the shipped model is trained and measured on: music, effects and voices of games in Debian, freely licensed.
# Usage: fetch-audio.sh DIR     about 1.9 GB to download, 900 MB kept; needs apt and dpkg, no root
# Leaves DIR/PACKAGE/**.{ogg,oga,mp3,wav,flac,opus}; a package already there is skipped. Licences: each package's copyright file.
set -euo pipefail
dir=$(mkdir -p "${1:?usage: fetch-audio.sh DIR}" && cd "$1" && pwd)
packages=(warzone2100-music drascula-music naev-data widelands-data supertuxkart-data freedroidrpg-data lincity-ng-data
  torcs-data hedgewars-data megaglest-data redeclipse-data)
tmp=$(mktemp -d "$dir/.fetch.XXXX"); trap 'rm -rf "$tmp"' EXIT
for package in "${packages[@]}"; do
  [ -d "$dir/$package" ] && { echo "$package: already there"; continue; }
  mkdir "$tmp/$package"
  (cd "$tmp/$package" && apt-get download -q "$package" >/dev/null && dpkg -x ./*.deb tree)
  find "$tmp/$package/tree" -type f ! \( -iname '*.ogg' -o -iname '*.oga' -o -iname '*.mp3' -o -iname '*.wav' \
    -o -iname '*.flac' -o -iname '*.opus' \) -delete
  find "$tmp/$package/tree" \( -type l -o -type d -empty \) -delete
  mv "$tmp/$package/tree" "$dir/$package"
  echo "$package: $(find "$dir/$package" -type f | wc -l) files"
done
