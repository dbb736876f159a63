"""python -m vse_gpo.report RUN… : one HTML file that shows runs and evaluations side by side."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.reporting.run:write_report", "report", words=("runs...",), computes=True)


if __name__ == "__main__":
    main()
