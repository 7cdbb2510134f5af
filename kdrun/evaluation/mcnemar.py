"""McNemar's test of two models on the same images, from counts. Without torch."""

from __future__ import annotations


def mid_p(first: int, second: int) -> float:
    """Two-sided mid-p of McNemar's exact test that both models are equally accurate; 1 for equal counts.

    first, second: images that only one of the two has right. Under the hypothesis, `first` is binomial with
    probability 1/2 among these images. The mid-p counts half of the observed outcome. Fagerland, Lydersen and
    Laake 2013 find it close to its nominal level; the exact p is conservative.
    """
    discordant, fewer = first + second, min(first, second)
    ways, below = 1, 0  # to choose `fewer` of the discordant images, and to choose fewer than that
    for i in range(fewer):
        below += ways
        ways = ways * (discordant - i) // (i + 1)
    # Integers up to the division: 0.5 ** discordant would underflow on large test parts.
    return (2 * below + ways) / (1 << discordant)
