"""moto's server without two errors that stand in the way of infra/.

It takes any Deny of a bucket for unconditional, and forgets a group's instance types when the group's size changes.
Runs by the Python of .venv-infra, with the server's own arguments.
"""

from typing import Any

from moto.autoscaling.models import FakeAutoScalingGroup
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.server import main

update = FakeAutoScalingGroup.update


def _without_an_opinion(*_: Any) -> PermissionResult:
    return PermissionResult.NEUTRAL


def _update_and_keep_policy(group: FakeAutoScalingGroup, *args: Any, **changes: Any) -> None:
    policy = changes.get("mixed_instances_policy") or group.mixed_instances_policy
    update(group, *args, **changes)
    group.mixed_instances_policy = policy


FakeBucket.get_permission = _without_an_opinion  # type: ignore[method-assign]
FakeAutoScalingGroup.update = _update_and_keep_policy  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
