"""Two nodes of a Ray cluster on this machine, in a process of their own: `python ray_cluster.py FOLDER`.

It prints its address, the nodes' ids and their raylets' process ids as JSON. A line `kill` on standard input kills the
second node as a power cut would; the end of standard input shuts all down. FOLDER is short: sockets lie in it.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes the machine's outer address
    "RAY_worker_register_timeout_seconds": "300",  # on a machine that is busy with something else
}

from ray._private import services
from ray.cluster_utils import Cluster

LOOK_UP = services.get_node
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1", "include_dashboard": False}


def look_up_patiently(address: str, node: str) -> object:
    """Ray gives a node 30 s to register, which a busy machine exceeds."""
    for _ in range(300):
        try:
            return LOOK_UP(address, node)
        except RuntimeError:
            time.sleep(1)
    return LOOK_UP(address, node)


def main(folder: str) -> None:
    services.get_node = look_up_patiently
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"temp_dir": folder})
    both = [cluster.head_node, cluster.add_node(**NODE, temp_dir=folder)]
    raylets = [node.all_processes["raylet"][0].process.pid for node in both]
    nodes = [node.node_id for node in both]
    print(json.dumps({"address": cluster.address, "nodes": nodes, "raylets": raylets}), flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(both[1], allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
