"""Where the process begins: `trailhawk` and `python -m trailhawk`. Ctrl-C may come while the command line is
loaded, which takes longer than this module."""

import sys


def main() -> None:
    """Run the command line of this process and end it."""
    try:
        from trailhawk.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
