"""python -m vse_gpo.compare A B : test whether two evaluated models really differ."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.evaluation.compare:compare_evaluations", "compare", words=("first", "second"))


if __name__ == "__main__":
    main()
