"""What tests need of ansible-core and of which the versions before 2.19 have no like (make compat runs them all)."""

from __future__ import annotations

import contextlib
import json
from unittest import mock

from ansible.module_utils import basic

try:
    from ansible.module_utils.testing import patch_module_args
    from ansible.template import trust_as_template
except ImportError:

    @contextlib.contextmanager
    def patch_module_args(args):
        """Give these arguments to the AnsibleModule that is made within."""
        given = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        with mock.patch.object(basic, "_ANSIBLE_ARGS", given):
            yield

    def trust_as_template(text):
        """The text: every text that is not marked as unsafe is a template."""
        return text


__all__ = ["patch_module_args", "trust_as_template"]
