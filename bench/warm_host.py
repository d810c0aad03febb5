"""One host of bench/warm_fleet.py: answers requests as the module would, line by line.

--without LIBRARY hides one that is installed.
"""

import json
import sys
import traceback
from pathlib import Path

if sys.argv[1:2] == ["--without"]:
    sys.modules[sys.argv[2]] = None  # type: ignore[assignment] # as if it was not installed

sys.path.insert(0, str(Path(__file__).parents[1] / ".collections"))

from ansible_collections.preheat.fleet.plugins.module_utils import swarm_peer
from ansible_collections.preheat.fleet.plugins.module_utils.hf_hub import HubError
from ansible_collections.preheat.fleet.plugins.module_utils.swarm_control import NoAgent

for line in sys.stdin:
    try:
        answer = swarm_peer.handle(json.loads(line))
    except NoAgent as error:
        answer = {"no_agent": str(error)}
    except HubError as error:
        answer = {"failed": True, "reason": error.reason, "message": error.message, "remedy": error.remedy}
    except Exception as error:
        answer = {"failed": True, "reason": "bug", "message": repr(error), "remedy": ""}
        answer["traceback"] = traceback.format_exc()
    print(json.dumps(answer), flush=True)
