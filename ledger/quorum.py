"""How many institutions must co-sign.

Of n members up to f = floor((n-1)/3) may lie. Two quorums must share an honest member, or two
different blocks could both become final at one height: 2q - n > f, so
q = floor((n+f)/2) + 1. (The better known 2f+1 forks at n = 5, 6, 8, 9, 20, 50.)
Source: Malkhi and Reiter, "Byzantine Quorum Systems", 1998, theorem 3.2.
"""


def faulty(n: int) -> int:
    """How many of ``n`` members may lie without two different final blocks at one height."""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """How many of ``n`` members must co-sign a block before it is final.

    Raises:
        ValueError: for n < 1.
    """
    if n < 1:
        raise ValueError("a consortium has at least one member")
    return (n + faulty(n)) // 2 + 1
