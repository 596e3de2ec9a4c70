"""The list of operations."""

from typing import Any

from fastapi import APIRouter

from app.operations import OPERATIONS, Operation
from app.routers.access import ANYBODY
from app.routers.dependencies import CurrentResources
from app.schemas import OperationList, OperationView

router = APIRouter(tags=["operations"])


@router.head("/operations", dependencies=[ANYBODY], include_in_schema=False)
@router.get("/operations", dependencies=[ANYBODY], summary="Every operation with the JSON schema of its parameters")
async def list_operations(resources: CurrentResources) -> OperationList:
    settings = resources.settings
    limits = ("max_upload_bytes", "max_pixels", "max_side", "max_frames", "max_nodes", "max_depth")
    return OperationList(
        operations=[_view(operation) for operation in OPERATIONS.values()],
        limits={name: getattr(settings, name) for name in limits},
    )


def _view(operation: Operation) -> OperationView:
    schema: dict[str, Any] = operation.params.model_json_schema()
    schema.pop("title", None)
    return OperationView(
        name=operation.name,
        description=schema.pop("description"),
        queue=operation.queue.value,
        output_format=operation.format,
        bundle=operation.bundle is not None,
        params=schema,
        example={"op": operation.name, **operation.example} if operation.example else operation.name,
    )
