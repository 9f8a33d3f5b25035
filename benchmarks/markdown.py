"""Tables in Markdown."""

from collections.abc import Sequence

RIGHT, LEFT = "---:", "---"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], others: str = RIGHT) -> str:
    """Return a table whose first column stands to the left, and whose `others` stand as they say.

    >>> print(table(["window", "ms"], [["2 s", "530"]]), end="")
    | window | ms |
    | --- | ---: |
    | 2 s | 530 |
    """
    lines = [columns, [LEFT, *[others] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
