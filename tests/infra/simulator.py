"""moto's server without the one error that stops `terraform apply`: it takes any Deny of a bucket for unconditional.

Runs by the Python of .venv-infra, with the server's own arguments.
"""

from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.server import main


def _without_an_opinion(*_: Any) -> PermissionResult:
    return PermissionResult.NEUTRAL


FakeBucket.get_permission = _without_an_opinion  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
