"""Several learners of one architecture as one batched model: the same arithmetic, in one call for all.

A small model's step takes most of its time in calls, not in arithmetic. Parameters, buffers and optimiser
states of all learners are stacked along a new first dimension. Each learner's own tensors become views of the
stacks, so validation, checkpoints and a plain step work as before. Forward and backward pass are vectorised
(torch.func.vmap) and traced once for each batch size. Sums are taken in another order, so a learner ends as
it would alone, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from kdrun.training.step import Learner, Step, tally
from kdrun.types import Batch, Outputs, Rows

Work = Callable[..., tuple[Tensor, Tensor, list[Tensor | None]]]

VIEWS = ("alias", "detach", "view", "_unsafe_view", "permute", "expand", "squeeze", "unsqueeze")
"""Operations that do nothing if shape and strides stay the same."""


class Objective(nn.Module):
    """A learner's model and mix as one module: from a batch and the teacher's outputs to the loss."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.tapped, self.mix, self.precision = learner.tapped, learner.mix, learner.precision

    def forward(self, images: Tensor, labels: Tensor, teacher: Outputs) -> tuple[Tensor, Tensor]:
        with self.precision():
            student = self.tapped(images)
        total, parts, _ = self.mix(student, teacher, Batch(images, labels))
        return total, parts


class Stacked:
    """A step that updates all its learners at once, called like `Step`. They differ only in weights, seed and
    the numbers of their mixes. If a model or a mix cannot be vectorised (for example, one that draws random
    numbers), `Step` does all the work. refused: the reason.
    """

    refused = ""

    def __init__(self, step: Step) -> None:
        self.step, self.learners, self.teacher, self.lr = step, step.learners, step.teacher, step.lr
        self.prepare, self.before, self.given = step.prepare, step.before, step.given
        self.objectives = [Objective(learner) for learner in self.learners]
        self.stack = _stacked(self.objectives)
        first = self.learners[0]
        named = list(self.objectives[0].named_parameters())
        learned = first.optimiser.parameters
        self.learned = [next(name for name, own in named if own is parameter) for parameter in learned]
        self.optimiser = copy.deepcopy(first.optimiser)
        self.optimiser.parameters = [self.stack[name] for name in self.learned]
        self.counts = self._stack_states()
        self.sums = torch.stack([learner.sums for learner in self.learners])
        self.broken = torch.stack([learner.broken for learner in self.learners])
        for learner, sums, broken in zip(self.learners, self.sums, self.broken, strict=True):
            learner.sums, learner.broken = sums, broken
        self.traced: dict[tuple[int, ...], Work] = {}

    def __call__(self, rows: Sequence[Rows]) -> None:
        if self.refused:
            self.step(rows)
            return
        shared = len(rows) == 1
        batch, teacher = self._batch(rows if shared else [rows[one.stream] for one in self.learners])
        try:
            total, parts, gradients = self._work(batch, teacher, shared)
        except RuntimeError as error:  # in tracing, before anything has changed
            self.refused = str(error)
            self.step(rows)
            return
        for parameter, gradient in zip(self.optimiser.parameters, gradients, strict=True):
            parameter.grad = gradient
        if self.learners[0].clip is not None:
            _clip([gradient for gradient in gradients if gradient is not None], self.learners[0].clip)
        self.optimiser.step(self.lr)
        self.counts[1:] = self.counts[0]
        tally(self.sums, self.broken, total, parts, batch.labels.shape[-1])

    def _batch(self, rows: Sequence[Rows]) -> tuple[Batch, list[Tensor]]:
        """Batch and teacher's outputs, with a first dimension for the learners (1 if they share rows)."""
        all_rows = Rows(torch.cat([own.index for own in rows]), torch.cat([own.view for own in rows]))
        flat = self.step.batch(all_rows)
        outputs, self.spec = tree_flatten(self.teacher(flat))
        self.filled = [leaf is not None for leaf in outputs]
        split = [
            leaf.unflatten(0, (len(rows), -1))
            for leaf in (flat.images, flat.labels, *outputs)
            if leaf is not None
        ]
        return Batch(split[0], split[1]), split[2:]

    def _work(
        self, batch: Batch, teacher: list[Tensor], shared: bool
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Each learner's total (R,), its parts (R, terms), and the gradients of the learned parameters."""
        given = [batch.images, batch.labels, *teacher]
        if shared:
            given = [tensor[0] for tensor in given]
        learned = self.optimiser.parameters
        rest = {name: tensor for name, tensor in self.stack.items() if name not in self.learned}
        size = (int(shared), *batch.labels.shape)
        if size not in self.traced:
            copies = {name: tensor.clone() for name, tensor in rest.items()}  # tracing writes into buffers
            self.traced[size] = _simpler(make_fx(self._vectorised(shared))(learned, copies, given))
        with torch.no_grad():
            return self.traced[size](learned, rest, given)

    def _vectorised(self, shared: bool) -> Work:
        objective, names, spec, filled = self.objectives[0], self.learned, self.spec, self.filled

        def one(state: dict[str, Tensor], given: list[Tensor]) -> tuple[Tensor, Tensor]:
            images, labels, *leaves = given
            rest = iter(leaves)
            teacher = tree_unflatten([next(rest) if there else None for there in filled], spec)
            both: tuple[Tensor, Tensor] = functional_call(objective, state, (images, labels, teacher))
            return both

        def work(
            learned: list[Tensor], rest: dict[str, Tensor], given: list[Tensor]
        ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
            leaves = [tensor.detach().requires_grad_() for tensor in learned]
            state = dict(zip(names, leaves, strict=True)) | rest
            dims = (0, None if shared else 0)
            total, parts = vmap(one, in_dims=dims, randomness="error")(state, given)
            gradients = torch.autograd.grad(total.sum(), leaves, allow_unused=True)
            # the fused kernels need gradients with the memory layout of the parameters
            return total.detach(), parts, [g if g is None else g.contiguous() for g in gradients]

        return work

    def _stack_states(self) -> Tensor:
        """Stacks the optimisers' states. Returns the step counts of all learners, (R, counts)."""
        states, merged = [learner.optimiser.state() for learner in self.learners], self.optimiser.state()
        counts = []
        for key, tensors in merged.items():
            for place in range(len(tensors)):
                own = [state[key][place] for state in states]
                stack = torch.stack(own).contiguous()
                if own[0].dim() == 0:
                    counts.append((key, place))
                    continue
                tensors[place] = stack
                for state, view in zip(states, stack, strict=True):
                    state[key][place] = view
        table = (
            torch.stack([torch.stack([s[k][p] for k, p in counts]) for s in states])
            if counts
            else torch.zeros(len(states), 0)
        )
        for state, row in zip([*states, merged], [*table, table[0]], strict=True):
            for (key, place), number in zip(counts, row, strict=True):
                state[key][place] = number
        return table


def _stacked(objectives: Sequence[Objective]) -> dict[str, Tensor]:
    """All parameters and buffers by name, (R, ...). The modules' own tensors become views of them."""
    states = [
        dict(objective.named_parameters()) | dict(objective.named_buffers()) for objective in objectives
    ]
    stacks = {}
    for name in states[0]:
        own = [state[name] for state in states]
        stacks[name] = torch.stack([tensor.detach() for tensor in own]).contiguous()
        for tensor, view in zip(own, stacks[name], strict=True):
            tensor.data = view
    return stacks


def _clip(gradients: Sequence[Tensor], most: float) -> None:
    """Each learner's gradients, scaled to a norm of at most `most`, as torch's `clip_grad_norm_` does."""
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.dim() - 1))


def _simpler(traced: GraphModule) -> GraphModule:
    """The graph without operations that do nothing."""
    for node in traced.graph.nodes:
        name = getattr(node.target, "__name__", "").partition(".")[0]
        source = node.args[0] if node.args else None
        if name not in VIEWS or not isinstance(source, torch.fx.Node):
            continue
        before, after = source.meta.get("val"), node.meta.get("val")
        if before is not None and (before.shape, before.stride()) == (after.shape, after.stride()):
            node.replace_all_uses_with(source)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced
