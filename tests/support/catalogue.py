"""Lists of all errors and metrics."""

from app import errors, metrics


def classes_below(parent: type[errors.PixToolsError]) -> list[type[errors.PixToolsError]]:
    return [parent, *(below for child in parent.__subclasses__() for below in classes_below(child))]


def all_names() -> list[str]:
    """The names of all metrics, as Prometheus scrapes them."""
    counted = [f"{f.name}_total" if f.type == "counter" else f.name for f in metrics.REGISTRY.collect()]
    scraped = [value.name for value in vars(metrics).values() if isinstance(value, metrics.Scraped)]
    return [name for name in counted if not name.startswith("process_")] + scraped
