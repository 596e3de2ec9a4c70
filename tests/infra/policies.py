"""Policies of AWS as data: what would be answered to a question. As much of IAM's rules as infra/ uses."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

Policy = Mapping[str, Any]


def allows(policy: str, action: str, resource: str = "*", *, service: str | None = None, **context: str) -> bool:
    """Whether a policy lets somebody do something.

    Args:
        policy: as JSON.
        action: such as `sns:Publish`.
        resource: its ARN.
        service: who asks, for policies of resources; None is anybody within the account's own policies.
        context: what the service says of the request, by names with `_` for `:`, such as `aws_SourceArn`.
    """
    said = {name.replace("_", ":", 1): value for name, value in context.items()}
    statements = [found for found in json.loads(policy)["Statement"] if _concerns(found, action, resource, service)]
    holding = [found["Effect"] for found in statements if _holds(found.get("Condition", {}), said)]
    return "Allow" in holding and "Deny" not in holding


def _concerns(statement: Policy, action: str, resource: str, service: str | None) -> bool:
    return (
        any(fnmatchcase(action, pattern) for pattern in _listed(statement["Action"]))
        and any(fnmatchcase(resource, pattern) or resource == "*" for pattern in _listed(statement["Resource"]))
        and _is_for(statement.get("Principal"), service)
    )


def _is_for(principal: Any, service: str | None) -> bool:
    if principal is None or principal == "*":
        return True
    named = list(_listed(principal.get("Service", []))) + list(_listed(principal.get("AWS", [])))
    return "*" in named or service in named


def _holds(conditions: Policy, said: Mapping[str, str]) -> bool:
    return all(
        _compare(operator, said.get(key), list(_listed(values)))
        for operator, tests in conditions.items()
        for key, values in tests.items()
    )


def _compare(operator: str, value: str | None, wanted: list[str]) -> bool:
    """A condition on what is not said does not hold."""
    if value is None:
        return False
    if operator in {"ArnLike", "StringLike"}:
        return any(fnmatchcase(value, pattern) for pattern in wanted)
    assert operator in {"ArnEquals", "StringEquals", "Bool", "NumericLessThan"}, operator
    return float(value) < float(wanted[0]) if operator == "NumericLessThan" else value in wanted


def _listed(value: Any) -> Iterator[str]:
    yield from ([value] if isinstance(value, str) else value)
