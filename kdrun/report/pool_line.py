"""The report's sentences about the pool: unlabelled images beside the training part."""

from __future__ import annotations

from kdrun.figures import count, plural
from kdrun.report.schema import PoolUse


def pool_line(pool: PoolUse) -> str:
    """How many images the student alone saw, their source, and which images were left out."""
    chosen = f" of {count(pool['images'])}" if pool["used"] < pool["images"] else ""
    text = (
        f"{count(pool['used'])}{chosen} images of {pool['source']} without labels were for the student alone."
    )
    left_out = pool.get("left_out", [])
    if left_out:
        near = plural(len(left_out), "near-duplicate")
        text += f" Left out: {near} of validation or test images ({', '.join(left_out)})."
    else:
        text += " None of its images is a near-duplicate of a validation or test image."
    if pool.get("repeated"):
        text += f" {plural(pool['repeated'], 'image')} more left out, because they are there already."
    return text
