"""Where `ddrl` and `python -m ddrl_sched` start: signals are heeded before anything is loaded that takes time."""

from ddrl_sched import stopping


def main() -> None:
    """Entry point. A signal during the first import waits for its end, since Python swallows some that come within."""
    stopping.listen()
    with stopping.postponed():
        from ddrl_sched.cli import main as command_line
    try:
        command_line()
    finally:
        stopping.insist()


if __name__ == "__main__":
    main()
