# Names and addresses of the lab. tests/lab/inventory and its group_vars repeat the addresses.
# shellcheck shell=bash disable=SC2034  # sourced: each script uses some of them

LAB_HOSTS="${LAB_HOSTS:-2}"          # how many run: gpu1 .. gpuN
LAB_HOSTS_KNOWN=3                    # how many the inventory has
LAB_NETWORK=preheat-lab
LAB_SUBNET=172.30.213.0/24
LAB_GATEWAY=172.30.213.1             # this machine, as the hosts see it
LAB_LABEL=preheat.lab                # on every container of a lab: its checkout's folder

LAB_HUB=preheat-lab-hub
LAB_HUB_ADDRESS=172.30.213.2
LAB_HUB_PORT=8090
LAB_CDN_PORT=8091

LAB_IMAGE_BASE=preheat-lab/base:bookworm
LAB_IMAGE_HOST=preheat-lab/host:latest
LAB_IMAGE_LIGHT=preheat-lab/light-engine:latest
LAB_IMAGE_SGLANG=preheat-lab/sglang-cpu:0.5.15

lab_container() { echo "preheat-lab-gpu$1"; }
lab_address() { echo "172.30.213.$((10 + $1))"; }
