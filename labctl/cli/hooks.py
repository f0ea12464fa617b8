"""`labctl hook test`: is somebody told when something happens at night?"""

from __future__ import annotations

import shlex

from labctl.cli.output import print_json, print_text
from labctl.errors import LabctlError
from labctl.runs.hooks import call_hook, describe
from labctl.settings import FILE, load_settings


class HookError(LabctlError):
    """There is no hook, or it did not do its work."""


def try_hook(*, as_json: bool) -> None:
    """Call the hook with the event `test`. Raises HookError when it cannot tell anybody anything."""
    settings = load_settings()
    if not settings.hooks.command:
        raise HookError(
            f"no hook is set for {settings.folder}: give [hooks] in {FILE} a command, "
            'such as command = ["./tell.sh"]'
        )
    call = call_hook(settings, describe("test", reason="a test by labctl hook test"))
    if as_json:
        print_json(vars(call) | {"command": list(settings.hooks.command), "on": list(settings.hooks.on)})
    else:
        print_text(f"{shlex.join(settings.hooks.command)} in {settings.folder}, called on: "
                   f"{', '.join(settings.hooks.on)}")  # fmt: skip
        print_text(call.output.rstrip() or "(it printed nothing)")
    if call.problem:
        raise HookError(f"{call.problem}; see [hooks] in {settings.folder / FILE}")
    if not as_json:
        print_text(f"the hook ended well after {call.duration_s:.1f} s")
