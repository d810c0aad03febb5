"""Parameters of the module sglang_server that tests of its container have in common."""

CONTAINER = {
    "ipc_mode": None,
    "network_mode": "bridge",
    "publish_host": "127.0.0.1",
    "port": 0,
    "container_port": 30000,
    "restart_policy": "no",
    "init": True,
}
