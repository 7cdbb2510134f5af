"""Classes that the student's transfer set left out: errors by class, and what a bias for their logits mends.

Hinton et al. 2015, section 3: a student that never saw a 3 knows much of it from soft targets, but the bias
of that class is too low. The constant is chosen on training images that the student was not taught on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Answers, Subject


def figures(subject: Subject) -> Iterator[Figure]:
    """Of student and control on test: `bias`, the constant; `top1_biased`; `errors_missing` and
    `errors_missing_biased`, errors among the images of the missing classes; `errors_CLASS` of each class.

    Nothing if no class was left out.
    """
    for own in subject.kept_out:
        test = subject.on_test(own.whose)
        if test is None:
            continue
        known, bias = test.labelled, best_bias(own.logits, own.labels, subject.missing)
        biased = with_bias(known.logits, subject.missing, bias)
        yield Figure("bias", bias, "", own.whose)
        right = 100 * float((biased.argmax(1) == known.labels).float().mean())
        yield Figure("top1_biased", right, "%", own.whose)
        of_missing = torch.isin(known.labels, torch.tensor(subject.missing))
        for name, logits in (("errors_missing", known.logits), ("errors_missing_biased", biased)):
            wrong = int((logits.argmax(1) != known.labels)[of_missing].sum())
            yield Figure(name, wrong, "", own.whose)
        for number, name in enumerate(subject.classes):
            yield Figure(f"errors_{name}", errors(known, number), "", own.whose)


def errors(answers: Answers, number: int) -> int:
    """How many images of a class are answered otherwise."""
    own = answers.labels == number
    return int((answers.logits.argmax(1) != number)[own].sum())


def with_bias(logits: Tensor, missing: Sequence[int], bias: float) -> Tensor:
    """(N, K) with the constant added to the logits of the missing classes."""
    more = torch.zeros(logits.shape[1], dtype=logits.dtype)
    more[list(missing)] = bias
    return logits + more


def best_bias(logits: Tensor, labels: Tensor, missing: Sequence[int]) -> float:
    """The constant with the most right answers: 0, or else the middle of the widest range of the best.

    Exact: the answers change only where the best missing logit passes the best other one. logits: (N, K).
    """
    others = [c for c in range(logits.shape[1]) if c not in missing]
    margin = (logits[:, others].max(1).values - logits[:, list(missing)].max(1).values).double()
    edges = torch.unique(torch.cat([margin, torch.zeros(1, dtype=torch.float64)]))
    low, high = edges[:1] - 1, edges[-1:] + 1
    every = torch.cat([low, edges, high])
    middles = torch.cat([(every[:-1] + every[1:]) / 2, torch.zeros(1, dtype=torch.float64)])
    right = [int((with_bias(logits.double(), missing, float(b)).argmax(1) == labels).sum()) for b in middles]
    if right[-1] == max(right):
        return 0.0
    widths = [float(w) if right[i] == max(right) else -1.0 for i, w in enumerate(every[1:] - every[:-1])]
    return float(middles[widths.index(max(widths))])
