"""Action plugins as Ansible makes them: real ones, on a task and a connection that do nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar


@pytest.fixture
def make_action():
    """The action plugin of a class, for a task with these arguments and variables."""

    def make(action_class, variables=None, *, delegate_to=None, check_mode=False, **args):
        loader = DataLoader()
        return action_class(
            task=SimpleNamespace(
                args=args, action="preheat.fleet.tested", async_val=0, check_mode=check_mode, delegate_to=delegate_to
            ),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent")),
            play_context=None,
            loader=loader,
            templar=Templar(loader=loader, variables=variables or {}),
            shared_loader_obj=None,
        )

    return make
