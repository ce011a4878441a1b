"""The steps of a run, whatever it trains: resume, train, validate, log, save, stop, and write the result.

    step → validation, where one is due → a line of metrics.jsonl → checkpoint → best/

Every validation is followed by a checkpoint, which holds the best one so far, and only then is best/ written: so a run
that is killed anywhere goes on as if it had not been. best/ is written again where a resumed run begins at its step.

Read next: loop.py for a step; run_folder.py for what is written.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from minscl.config import RunConfig
from minscl.errors import printable
from minscl.training.best import BestValidation
from minscl.training.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    read_validation,
    remove_older_checkpoints,
    save_checkpoint,
)
from minscl.training.distributed import ProcessGroup
from minscl.training.loop import NotFinite, count_steps, learns, plan_steps, train_steps
from minscl.training.metrics_log import MetricsLog, add_to_last_record, plot_losses, truncate_metrics
from minscl.training.run_folder import BEST, write_run_json
from minscl.training.stop_signals import StopSignals


class Named(Protocol):
    """A sample: messages show `name`."""

    @property
    def name(self) -> str:
        """The document, or file:line."""
        ...


@dataclass(frozen=True)
class Task:
    """What a run trains: LoRA for generation (run.lora_task), or a head (heads/train.py).

    `parameters`: name → trained tensor. `settings`: checkpoint_settings. `forward_backward` as for train_steps,
    `build_step` as for plan_steps. `save(finished)`: write the result to --out; returns its name for messages.
    `validate(is_stopping)`: scores for metrics.jsonl, None if stopped; `save_best`: write the result to --out/best.
    """

    model: Any
    samples: Sequence[Named]
    parameters: dict[str, torch.nn.Parameter]
    settings: dict
    forward_backward: Callable[[Any, Any, torch.device], float]
    save: Callable[[bool], str]
    build_step: Callable[[list[int], int], Any] | None = None
    validate: Callable[[Callable[[], bool]], dict | None] | None = None
    save_best: Callable[[], None] = lambda: None


def run_steps(task: Task, config: RunConfig, device: torch.device, group: ProcessGroup) -> None:
    """Train from the newest checkpoint to the last step, the end of patience or a stop signal, and write the files.

    Raises SystemExit after a stop signal, once everything is saved.
    """
    out = Path(config.out)
    optimizer = torch.optim.AdamW(
        task.parameters.values(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay
    )
    total_steps = count_steps(task.samples, config)
    run = Run(task, config, optimizer, total_steps, group)
    run.resume()
    steps, _ = plan_steps(task.samples, config, run.done, group, task.build_step)
    group.barrier()  # every process has read the checkpoint before the main process writes
    if group.is_main:
        if config.resume and run.done == 0:
            print(f"--resume: {out} has no checkpoint yet, so the run begins at its first step", file=sys.stderr)
        truncate_metrics(out / "metrics.jsonl", run.done)
        remove_older_checkpoints(out / "checkpoints", run.done)
        write_run_json(out / "run.json", config)
    with (
        StopSignals() as stop,
        report_not_finite(task.samples, out, group.is_main),  # after the progress bar is closed
    ):
        scores = run.validate_last_step(stop)
        [stopping] = group.sum(stop.requested)  # all processes, or none
        with MetricsLog(out, run.done, total_steps, group.is_main, config.tensorboard) as log:
            if scores is not None:
                log.add_late_validation(run.done, scores)
            for record in train_steps(
                task.model,
                list(task.parameters.values()),
                optimizer,
                () if run.is_over or stopping else steps,
                forward_backward=task.forward_backward,
                first_step=run.done,
                total_steps=total_steps,
                config=config,
                device=device,
                group=group,
            ):
                if run.finish_step(record, stop, log):
                    break
    if group.is_main and run.done:  # before its first step a run has nothing to save
        saved = task.save(run.is_complete or run.is_over)
        remark = "" if learns(config, total_steps) else " (learning rate 0: it changes nothing)"
        early = f", {run.best.since} validations after the best one" if run.is_over and not run.is_complete else ""
        print(f"{saved} after {run.done} of {total_steps} steps{early}{remark}: {out}", file=sys.stderr)
        if run.best.best_step:
            print(f"best validation: {run.best}: {out / BEST}", file=sys.stderr)
        print(plot_losses(out), file=sys.stderr)
    if not run.is_complete and not run.is_over:
        raise SystemExit(stop.exit_status)


class Run:
    """Where a run stands: `done` steps and the best validation so far; its checkpoints."""

    def __init__(
        self, task: Task, config: RunConfig, optimizer: torch.optim.Optimizer, total_steps: int, group: ProcessGroup
    ):
        self.task, self.config, self.optimizer, self.total_steps, self.group = (
            task,
            config,
            optimizer,
            total_steps,
            group,
        )
        self.out, self.done, self.best = Path(config.out), 0, BestValidation()

    @property
    def is_complete(self) -> bool:
        """Whether every step is done, and its validation."""
        return self.done == self.total_steps and (self.task.validate is None or self.best.last_step == self.done)

    @property
    def is_over(self) -> bool:
        """Whether `--patience` is at its end."""
        return self.task.validate is not None and self.best.is_over(self.config.patience)

    def resume(self) -> None:
        """Go to the newest checkpoint, where the run is to be resumed."""
        if not self.config.resume:
            return
        folder, task = self.out / "checkpoints", self.task
        self.done = load_checkpoint(folder, task.parameters, self.optimizer, task.settings, self.total_steps)
        if self.done:
            self.best = BestValidation.from_dict(*read_validation(folder, self.done))
        if self.group.is_main and self.done == self.best.best_step > 0:
            task.save_best()  # a kill may have come between the checkpoint and best/

    def validate(self, step: int, stop: StopSignals) -> dict | None:
        """The scores of `step` where a validation is due, None where none is or where the run is to stop."""
        is_due = step % self.config.validate_every == 0 or step == self.total_steps
        if self.task.validate is None or not is_due or self.best.last_step == step:
            return None
        scores = self.task.validate(lambda: stop.requested)
        if scores is not None:
            self.best = self.best.after(step, scores)
        return scores

    def validate_last_step(self, stop: StopSignals) -> dict | None:
        """The validation of the step that is done, where a stop signal ended it; its scores join the step's record."""
        scores = self.validate(self.done, stop) if self.done else None
        if scores is not None and self.group.is_main:
            add_to_last_record(self.out / "metrics.jsonl", self.done, {"validation": scores})
            self.save()
        return scores

    def finish_step(self, record: dict, stop: StopSignals, log: MetricsLog) -> bool:
        """Validate, log and save after a step, as far as each is due; returns whether the run ends here."""
        self.done = record["step"]
        scores = self.validate(self.done, stop)
        log.add(record if scores is None else {**record, "validation": scores})
        [stopping] = self.group.sum(stop.requested)  # a signal to one process stops all after the same step
        is_due = self.done % self.config.save_every == 0 or self.done == self.total_steps
        if self.group.is_main and (is_due or scores is not None or stopping):
            self.save()
        return bool(stopping) or self.is_over

    def save(self) -> None:
        """A checkpoint of this step, and best/ where its validation is the best."""
        folder, task = self.out / "checkpoints", self.task
        save_checkpoint(folder, self.done, task.parameters, self.optimizer, task.settings, self.best.to_dict())
        if self.best.best_step == self.done:
            task.save_best()


@contextlib.contextmanager
def report_not_finite(samples: Sequence[Named], out: Path, is_main: bool) -> Iterator[None]:
    """NotFinite → one line naming the samples and the last good checkpoint, and exit status 1: the run failed."""
    try:
        yield
    except NotFinite as error:
        names = printable(", ".join(samples[index].name or f"sample {index + 1}" for index in error.sample_indices))
        if is_main:
            print(
                f"minscl: {error}; samples: {names}; nothing was trained on it; "
                f"the last good checkpoint is {newest_checkpoint(out / 'checkpoints', error.step) or 'none yet'}",
                file=sys.stderr,
            )
        raise SystemExit(1) from None
