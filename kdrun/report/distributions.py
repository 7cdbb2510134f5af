"""Student's t, the F distribution and the power of a t test, computed with numpy alone.

Sources: Abramowitz and Stegun 1964, 26.5 (incomplete beta function), 26.6 (F), 26.7 (t, noncentral t); the
continued fraction is evaluated by the method of Lentz 1976 as Thompson and Barnett 1986 changed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

NORMAL = NormalDist()
TINY = 1e-300
ENOUGH = 1e-16
POINTS = 4000
"""Midpoints for the integral of a power; the error is below 1e-5."""


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): 0 at x = 0, 1 at x = 1; a and b are positive."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only: 26.5.2
        return 1 - beta_share(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / (a * _fraction(x, a, b))


def t_cdf(t: float, df: float) -> float:
    """P(T <= t) of Student's t with df degrees of freedom."""
    outside = beta_share(df / (df + t * t), df / 2, 0.5) / 2
    return 1 - outside if t > 0 else outside


def t_p(t: float, df: float) -> float:
    """The two-sided p of a t statistic: P(|T| >= |t|), exact also where it is far below 1e-16."""
    return beta_share(df / (df + t * t), df / 2, 0.5)


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 < p < 1."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    high = 1.0
    while t_cdf(high, df) < p:
        high *= 2
    return _root(lambda t: t_cdf(t, df) - p, 0.0, high)


def f_p(f: float, above: float, below: float) -> float:
    """P(F >= f) of the F distribution with `above` and `below` degrees of freedom."""
    return beta_share(below / (below + above * f), below / 2, above / 2) if f > 0 else 1.0


def t_power(effect: float, n: int, level: float = 0.05) -> float:
    """The power of a two-sided t test over n values to see a true mean of `effect` standard deviations, with
    the right sign.

    P(T' > c) of the noncentral t with n - 1 degrees of freedom and noncentrality effect * sqrt(n), c the
    critical value. Given the estimated over the true deviation s, T' > c has the normal probability
    Phi(effect sqrt(n) - c s); it is integrated over the distribution of s = sqrt(chi2 / df).
    """
    df = n - 1
    critical, shift = t_quantile(1 - level / 2, df), abs(effect) * math.sqrt(n)
    spread = 1 / math.sqrt(2 * df)
    import numpy as np  # only here, since it takes longer than most tables

    s = (np.arange(POINTS) + 0.5) * (1 + 14 * spread) / POINTS
    front = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density = np.exp(front + (df - 1) * np.log(s) - df * s * s / 2)
    reached = np.array([NORMAL.cdf(shift - critical * at) for at in s])
    return float(np.sum(density * reached) / np.sum(density))


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction 26.5.8, as the divisor of what stands before it."""
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1, 100_000):
        m = i // 2
        if i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + term * d) or TINY)
        c = (1 + term / c) or TINY
        value *= c * d
        if abs(c * d - 1) < ENOUGH:
            break
    return value


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, between low and high, to the last bit: bisection."""
    middle = (low + high) / 2
    while low < middle < high:
        low, high = (low, middle) if rises(middle) > 0 else (middle, high)
        middle = (low + high) / 2
    return middle
