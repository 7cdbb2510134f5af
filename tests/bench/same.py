"""Whether kdrun computes what the textbook does: the same batches through both, and the losses compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kdrun.data.batches import training_images
from kdrun.training.plan import epoch_plan
from tests.bench import record, textbook
from tests.bench.ours import Whole
from tests.bench.rivals import pair, setting
from tests.bench.scene import Scene, plan, settle

TOLERANCE = 1e-4


def measure(scene: Scene, out: Path, say: Callable[[str], None]) -> None:
    """Prints the mean loss of an epoch by both, and how far they are apart; fp32."""
    settle(scene)
    ours = {
        "live": Whole(scene, "live", [["precision=fp32", "runtime.table=off"]]),
        "table": Whole(scene, "table", [["precision=fp32"]]),
    }
    base = _plain(scene)
    for name, arm in ours.items():
        loss = arm.epoch()
        arm.close()
        apart = abs(loss - base) / base
        say(f"{name}: loss {loss:.6f}, the textbook's {base:.6f}: {apart:.1e} apart (at most {TOLERANCE:g})")
        record.write(
            out, "same", name, {"loss": loss, "textbook": base, "apart": apart, "images": scene.images}
        )


def _plain(scene: Scene) -> float:
    """The textbook's updates on the batches that kdrun's first epoch has."""
    built = plan(scene.taught())
    rules, (teacher, student) = setting(built), pair(built)
    training, ground, device = built.student, built.ground, built.ground.machine.device
    updates = textbook.optimiser(student, rules.optimiser)
    images, labels = training_images(ground.data, ground.views, device), ground.data.train.labels.to(device)
    epoch = epoch_plan(training.seed, 0, training.row_set(), ground.views, device)
    total = 0.0
    for rows in epoch.batches():
        batch = [(images(rows).contiguous(), labels[rows.index])]
        total += textbook.train_epoch(batch, student, teacher, updates, rules) * len(rows.index)
    return total / scene.images
