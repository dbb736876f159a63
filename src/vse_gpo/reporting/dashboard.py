"""python -m vse_gpo.reporting.dashboard ENTITY/PROJECT : a saved view and a report in Weights & Biases."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.reporting.wandb_views:write_dashboard", "dashboard", words=("project",))


if __name__ == "__main__":
    main()
