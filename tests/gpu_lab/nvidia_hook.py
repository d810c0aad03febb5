#!/usr/bin/python3
"""Stands in for nvidia-container-runtime-hook, where NVIDIA's container toolkit is not to be had.

dockerd finds it by name on its PATH and so accepts device requests (`--gpus all`); runc then runs it as the OCI
prestart hook. It makes the device nodes of the GPUs that were asked for in the container, opens the devices cgroup to
them (v1: devices.allow, v2: the device program is detached) and mounts the driver's folder in the container's mount
namespace.
"""

import ctypes
import json
import os
import re
import stat
import struct
import subprocess
import sys

DRIVER = "/usr/local/nvidia"
KERNEL = "/proc/driver/nvidia/gpus"
PARAMETERS = "/proc/driver/nvidia/params"
SYS_BPF = 321  # x86-64
PROG_DETACH, PROG_GET_FD_BY_ID, PROG_QUERY = 9, 13, 16
CGROUP_DEVICE = 6


def hidden_nodes(configuration):
    """Paths of the GPUs that the device request did not name, by index (in the order of the bus) or UUID."""
    environment = dict(pair.split("=", 1) for pair in configuration["process"]["env"] if "=" in pair)
    wanted = environment.get("NVIDIA_VISIBLE_DEVICES", "all").split(",")
    if "all" in wanted or not os.path.isdir(KERNEL):
        return set()
    hidden = set()
    for index, bus in enumerate(sorted(os.listdir(KERNEL))):
        with open(os.path.join(KERNEL, bus, "information")) as file:
            facts = dict(re.findall(r"^(.*?):\s*(.*?)\s*$", file.read(), re.M))
        if not {str(index), facts["GPU UUID"]} & set(wanted):
            hidden.add(f"/dev/nvidia{facts['Device Minor']}")
    return hidden


def device_nodes():
    """(path, major, minor) of every NVIDIA character device."""
    for folder, _, names in os.walk("/dev"):
        if folder != "/dev" and "nvidia" not in folder:
            continue
        for path in (os.path.join(folder, name) for name in names):
            if "nvidia" in path:
                status = os.stat(path)
                if stat.S_ISCHR(status.st_mode):
                    yield path, os.major(status.st_rdev), os.minor(status.st_rdev)


def bpf(command, layout, *values):
    attributes = ctypes.create_string_buffer(struct.pack(layout, *values).ljust(128, b"\0"), 128)
    result = ctypes.CDLL(None, use_errno=True).syscall(SYS_BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return result, attributes.raw


def open_devices_v2(cgroup):
    """Takes runc's device program off the cgroup: all devices are then open to the container."""
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    programs = (ctypes.c_uint32 * 16)()
    _, answer = bpf(PROG_QUERY, "IIIIQI", folder, CGROUP_DEVICE, 0, 0, ctypes.addressof(programs), 16)
    for program in programs[: struct.unpack_from("I", answer, 24)[0]]:
        descriptor, _ = bpf(PROG_GET_FD_BY_ID, "I", program)
        bpf(PROG_DETACH, "III", folder, descriptor, CGROUP_DEVICE)


def open_devices(pid, nodes):
    with open(f"/proc/{pid}/cgroup") as lines:
        groups = [line.rstrip("\n").split(":", 2) for line in lines]
    for number, controllers, path in groups:
        if "devices" in controllers.split(","):
            for _, major, minor in nodes:
                with open(f"/sys/fs/cgroup/devices{path}/devices.allow", "w") as allow:
                    allow.write(f"c {major}:{minor} rw")
        elif number == "0" and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            open_devices_v2("/sys/fs/cgroup" + path)


def main():
    if sys.argv[1:] != ["prestart"]:
        return
    state = json.load(sys.stdin)
    with open(os.path.join(state["bundle"], "config.json")) as file:
        configuration = json.load(file)
    root = os.path.join(state["bundle"], configuration["root"]["path"])
    hidden = hidden_nodes(configuration)
    nodes = [node for node in device_nodes() if node[0] not in hidden]
    commands = [
        f"mkdir -p {root}{os.path.dirname(path)}; [ -e {root}{path} ] || mknod -m 666 {root}{path} c {major} {minor}"
        for path, major, minor in nodes
    ]
    if hidden:
        # The driver's libraries make the nodes that they miss, unless it says that they must not.
        with open(PARAMETERS) as file, open(f"/run/nvidia-params-{state['pid']}", "w") as told:
            told.write(file.read().replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"))
        commands.append(f"mount --bind {told.name} {root}{PARAMETERS}")
    if os.path.isdir(DRIVER):
        target = root + DRIVER
        commands.append(f'mkdir -p {target}; [ -n "$(ls -A {target})" ] || mount --rbind {DRIVER} {target}')
    subprocess.run(["nsenter", "-t", str(state["pid"]), "-m", "--", "sh", "-c", "; ".join(commands)], check=True)
    open_devices(state["pid"], nodes)


if __name__ == "__main__":
    main()
