#!/usr/bin/env bash
# Installs what building and testing EcoLink need and this machine lacks.
# Debian and Ubuntu; on others it names what is missing.
set -euo pipefail

# command (or file) → Debian package
needs=(
  "containerd containerd"
  "runc runc"
  "/usr/lib/cni/bridge containernetworking-plugins"
  "nft nftables"
  "iptables iptables"
  "ip iproute2"
  "/bin/busybox busybox-static"
  "gcc gcc"
)

missing=()
for need in "${needs[@]}"; do
  read -r what package <<<"$need"
  case "$what" in
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null || missing+=("$package") ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]} (Debian names): install them with your package manager" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "missing: ${missing[*]}: run 'sudo apt-get install ${missing[*]}'" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
