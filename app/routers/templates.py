"""Templates over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from app.models import Scope
from app.routers.access import CurrentPrincipal, Own, needs
from app.routers.dependencies import CurrentResources
from app.routers.openapi import TEMPLATE, TEMPLATE_RESPONSES, problems
from app.schemas import NewTemplate, TemplateList, TemplateSummary, TemplateView
from app.services.access.audit import Audited
from app.services.intake import templates
from app.services.intake.templates import Definition, Versioned

router = APIRouter(tags=["templates"])
READ, WRITE = [needs(Scope.JOBS_READ)], [needs(Scope.TEMPLATES_WRITE)]

TemplateName = Annotated[str, Path(description="Name.", json_schema_extra={"pattern": f"^{templates.NAME}$"})]
Reference = Annotated[
    str, Path(description="Name, or name and version: `shop@2`.", json_schema_extra={"pattern": f"^{TEMPLATE}$"})
]


@router.put(
    "/templates/{template_name}",
    dependencies=WRITE,
    summary="Store a template, or a new version of it",
    responses=TEMPLATE_RESPONSES,
)
async def put_template(
    template_name: TemplateName,
    new: NewTemplate,
    own: Own,
    principal: CurrentPrincipal,
    resources: CurrentResources,
    response: Response,
) -> TemplateView:
    """201 with a new version, or 200 with the latest version if that is equal. Versions never change."""
    definition = Definition(**new.model_dump())
    templates.check(definition, resources.submissions.tree_limits)
    stored = Audited(
        principal=principal,
        action="template.stored",
        subject=lambda put: put[0].reference if put[1] else None,
    )
    found, is_new = await own.call(stored, templates.put, template_name, definition)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/templates/{found.reference}"
    return _view(found)


@router.head("/templates", dependencies=READ, include_in_schema=False)
@router.get("/templates", dependencies=READ, summary="Every template")
async def list_templates(own: Own) -> TemplateList:
    return TemplateList(data=[TemplateSummary(**_summary(found)) for found in await own.read(templates.every)])


@router.head("/templates/{template_name}", dependencies=READ, include_in_schema=False)
@router.get("/templates/{template_name}", dependencies=READ, summary="A template", responses=problems(404))
async def get_template(template_name: Reference, own: Own) -> TemplateView:
    """The latest version, unless one is named."""
    return _view(await own.read(templates.get, template_name))


@router.delete(
    "/templates/{template_name}",
    dependencies=WRITE,
    status_code=204,
    summary="Delete a template with all its versions",
    responses=problems(404, 409),
)
async def delete_template(template_name: TemplateName, own: Own, principal: CurrentPrincipal) -> None:
    """Jobs keep their trees. If a template is stored under the name later, it continues the version numbers."""
    deleted = Audited(principal=principal, action="template.deleted", subject=lambda _: template_name)
    await own.call(deleted, templates.remove, template_name)


def _summary(found: Versioned) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "template": found.reference,
        "params": found.definition.params,
        "built_in": found.created_at is None,
        "created_at": found.created_at,
    }


def _view(found: Versioned) -> TemplateView:
    definition = found.definition
    return TemplateView(**_summary(found), operations=definition.operations, output=definition.output)
