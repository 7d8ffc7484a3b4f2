#!/usr/bin/env bash
# Installs what EcoLink needs and this machine lacks: deps.sh GROUP...
# Groups: run (building and running), test, bench.
# Debian and Ubuntu; on others it names what is missing.
set -euo pipefail

# command (or file, or a pattern of files) → Debian package
run=(
  "containerd containerd"
  "runc runc"
  "/usr/lib/cni/bridge containernetworking-plugins"
  "nft nftables"
  "iptables iptables"
  "ip iproute2"
  "mkfs.ext4 e2fsprogs"
  "fsfreeze util-linux"
  "unshare util-linux"
  "/bin/busybox busybox-static"
  "gcc gcc"
  "/usr/include/stdlib.h libc6-dev"
  "node nodejs"
  "npm npm"
)
test=(
  "tmux tmux"
  "htop htop"
  "vim vim"
  "chromium chromium"
  "nsenter util-linux"
  "ssh openssh-client"
  "pidof sysvinit-utils"
  "mmdebstrap mmdebstrap"
  "mkfs.xfs xfsprogs"
)
bench=(
  "shellinaboxd shellinabox"
  "fio fio"
  "podman podman"
  "/usr/lib/postgresql/*/bin/pgbench postgresql"
  "/usr/lib/postgresql/*/bin/initdb postgresql"
)

missing=()
for group in "$@"; do
  case "$group" in
    run) needs=("${run[@]}") ;;
    test) needs=("${test[@]}") ;;
    bench) needs=("${bench[@]}") ;;
    *) echo "deps.sh: no group $group" >&2; exit 1 ;;
  esac
  for need in "${needs[@]}"; do
    read -r what package <<<"$need"
    case "$what" in
      /*) compgen -G "$what" >/dev/null || missing+=("$package") ;;
      *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null || missing+=("$package") ;;
    esac
  done
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
