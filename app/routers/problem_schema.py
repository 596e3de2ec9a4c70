"""The schema of problems in the OpenAPI document; `app/problems.py` writes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.errors import CannotStart, PixToolsError, StepFailed, codes_of
from app.schemas import left_out, one_of

#: codes of mistakes in a tree, in addition to those in `app/errors.py`
TREE_CODES = {
    "missing_field",
    "operations_too_long",
    "too_many_operations",
    "tree_too_deep",
    "unknown_operation",
    "invalid_result_name",
    "duplicate_result_name",
    "unknown_asset",
}
#: codes of requests that no route answers
HTTP_CODES = {"not_found", "method_not_allowed"}

PROBLEM_CODES = (
    (codes_of(PixToolsError) - codes_of(StepFailed, CannotStart)) | {PixToolsError.code} | TREE_CODES | HTTP_CODES
)


class ProblemError(BaseModel):
    """One mistake in the input."""

    model_config = ConfigDict(extra="allow")

    detail: str
    pointer: str = Field(
        description="JSON pointer to the mistake, as a URI fragment.", examples=["#/operations/0/width"]
    )
    code: str = Field("", description="Code of this mistake.", json_schema_extra=left_out)
    limit: float = Field(0, description="The limit that was exceeded.", json_schema_extra=left_out)
    value: Any = Field(None, description="The refused value, shortened.", json_schema_extra=left_out)


class Problem(BaseModel):
    """RFC 9457 problem details; decide by `code`, which never changes its meaning."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/help/errors#job_not_found"], json_schema_extra={"format": "uri-reference"})
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599)
    detail: str = Field(
        description="Description of the problem for people.", examples=["There is no job with this id."]
    )
    code: str = Field(examples=["job_not_found"], json_schema_extra=one_of(PROBLEM_CODES))
    instance: str = Field("", description="Path of the request.", json_schema_extra=left_out)
    errors: list[ProblemError] = Field(
        [],
        description="One entry for each mistake that has a place in the request; left out if there is none.",
        min_length=1,
        json_schema_extra=left_out,
    )
    limit: float = Field(0, description="The setting's limit that was exceeded.", json_schema_extra=left_out)
    value: Any = Field(None, description="The refused value, shortened.", json_schema_extra=left_out)
