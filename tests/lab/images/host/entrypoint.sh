#!/bin/sh
# Boots a lab host: its keys, its own Docker engine, its sshd.
set -eu

install -d -m 700 /root/.ssh
install -m 600 /lab-ssh/id_ed25519.pub /root/.ssh/authorized_keys
install -m 600 "/lab-ssh/hosts/$(hostname)" /etc/ssh/ssh_host_ed25519_key

# dockerd writes below /sys/fs/cgroup and /sys/class/net, which Docker mounts read-only.
mount -o remount,rw /sys
lab-engine start

mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
