#!/usr/bin/env bash
# Fetches what the shipped model is trained and measured on: music, effects and voices of games in Debian, freely licensed.
# Usage: fetch-audio.sh DIR            about 1.9 GB to download, 900 MB kept; needs apt and dpkg, no root
#        fetch-audio.sh DIR --unheard  600 MB of other packages instead, for measuring alone: nothing was trained on them, nor
#                                      was anything chosen by them; give them a folder of their own
# Leaves DIR/PACKAGE/**.{ogg,oga,mp3,wav,flac,opus}; a package already there is skipped. Licences: each package's copyright file.
set -euo pipefail
case "${2:-}" in
  "") packages=(warzone2100-music drascula-music naev-data widelands-data supertuxkart-data freedroidrpg-data
    lincity-ng-data torcs-data hedgewars-data megaglest-data redeclipse-data) ;;
  --unheard) packages=(wesnoth-1.16-music nexuiz-music ufoai-music singularity-music hyperrogue-music asc-music
    planetblupi-music-ogg fretsonfire-songs-sectoid fretsonfire-songs-muldjord) ;;
  *) echo "fetch-audio.sh: $2 is no option; usage: fetch-audio.sh DIR [--unheard]" >&2; exit 64 ;;
esac
dir=$(mkdir -p "${1:?usage: fetch-audio.sh DIR [--unheard]}" && cd "$1" && pwd)
tmp=$(mktemp -d "$dir/.fetch.XXXX"); trap 'rm -rf "$tmp"' EXIT
for package in "${packages[@]}"; do
  [ -d "$dir/$package" ] && { echo "$package: already there"; continue; }
  mkdir "$tmp/$package"
  (cd "$tmp/$package" && apt-get download -q "$package" >/dev/null && dpkg -x ./*.deb tree)
  # Some games keep their music in an archive.
  [ -z "${2:-}" ] || find "$tmp/$package/tree" -iname '*.pk3' -exec python3 -m zipfile -e {} {}.d \;
  find "$tmp/$package/tree" -type f ! \( -iname '*.ogg' -o -iname '*.oga' -o -iname '*.mp3' -o -iname '*.wav' \
    -o -iname '*.flac' -o -iname '*.opus' \) -delete
  find "$tmp/$package/tree" \( -type l -o -type d -empty \) -delete
  mv "$tmp/$package/tree" "$dir/$package"
  echo "$package: $(find "$dir/$package" -type f | wc -l) files"
done
