"""Write the generated table of docs/operations.md: `make docs`."""

from app.manual.operation_tables import PAGE, written

if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
