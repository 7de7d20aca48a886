"""The console script ``gateway``, which is also ``python -m gateway``."""

from gateway.cli.root import gateway


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    gateway(prog_name="gateway")


if __name__ == "__main__":
    main()
