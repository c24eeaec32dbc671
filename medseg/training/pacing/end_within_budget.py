"""As many updates as a time budget allows, with a schedule that follows the time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from medseg.optim import learning_rate_at
from medseg.training.options import TrainConfig
from medseg.training.pacing.budget_clock import TimeBudget
from medseg.training.pacing.segments import PaceRecord, Segment

_LOGGER = logging.getLogger(__name__)

_PROBE_UPDATES, _PROBE_END = 8, 0.002
"""Updates of the first segment, which measures their duration, and its end in the schedule."""
_SEGMENT_SHARE, _LAST_SHARE = 0.05, 0.02
"""Longest segment, and time left that the last segment uses up, as shares of the budget."""
_LATE_FACTOR, _LATE_SHARE = 1.2, 0.005
"""A segment is late beyond this multiple of its expected duration plus this share of the budget."""
_OVERDUE = 1.03
"""Share of the budget after which a validation is abandoned."""
_LARGEST_SHARE, _TOLERANCE = 0.5, 1.1
"""Largest share of the last validation without ``train.validate_share``; factor for a planned one."""
_END_SECONDS, _END_SHARE = 1.5, 0.03
"""Time for the end of the process: seconds, and at most this share of the budget."""


class BudgetPace:
    """Decides the number of updates by the clock.

    The training is divided into segments. At the start of each, the time that is left and the recent duration
    of an update give the number of updates that still fit; the segment gets some of them and as large a part
    of what is left of the schedule. The position in the schedule therefore follows the time, whatever else
    uses the machine, and ends at 1 with the last update. A segment that is late is cut short.

    Each decision is recorded: a resumed run continues its segment exactly.

    Args:
        budget: of the whole command.
        options: of the training loop.
        record: earlier decisions and measurements; updated in place.
        select_validation: called once with the expected number of updates; selects the validation cases and
            returns the duration of their validation, as a number of updates that take as long.
    """

    def __init__(
        self,
        budget: TimeBudget,
        options: TrainConfig,
        record: PaceRecord,
        select_validation: Callable[[int], float],
    ) -> None:
        self.budget, self.options, self.record = budget, options, record
        self.select_validation = select_validation
        self._last_time = self._segment_began = self._validation_began = budget.used()
        self._expected_seconds = _LAST_SHARE * budget.seconds
        self._expected_from = 0
        self._recent_seconds, self._recent_updates, self._first = 0.0, 0, True

    @property
    def total(self) -> int:
        """Number of updates of the whole training, as far as it is known."""
        return self.record.expected_updates or _PROBE_UPDATES

    @property
    def last_batch(self) -> int | None:
        """None: the number of batches is not known in advance."""
        return None

    @property
    def is_measured(self) -> bool:
        """Whether the duration of an update is known."""
        return self.record.update_seconds > 0

    @property
    def validation_seconds(self) -> float:
        """Expected duration of a validation at the recent speed."""
        return self.record.validation_updates * self.record.update_seconds

    def begin(self, step: int) -> None:
        """Note that updates begin or continue at ``step``; decide the first segment."""
        record = self.record
        self._last_time = self.budget.used()
        if not record.segments:
            self._add(Segment(step, step + _PROBE_UPDATES, 0.0, _PROBE_END), _LAST_SHARE * self.budget.seconds)
        elif not record.finished:
            rest = record.segments[-1].stop - step
            self._expect(step, rest * record.update_seconds or _LAST_SHARE * self.budget.seconds)

    def is_finished(self, step: int) -> bool:
        """Return whether the time for updates is over."""
        return self.record.finished

    def learning_rate(self, step: int, scores: list[float]) -> float:
        """Return the learning rate of an update: that of the middle of its part of the schedule."""
        position = self.record.segments[-1].position(step + 0.5)
        return learning_rate_at(self.options.optimizer.lr, self.options.schedule, position, scores)

    def position(self, step: int) -> float:
        """Return the position in the training after ``step`` updates."""
        segments = self.record.segments
        current = next((one for one in reversed(segments) if one.start <= step), None)
        return 0.0 if current is None else current.position(min(step, current.stop))

    def after_growth(self, step: int, factor: float) -> None:
        """Expect updates that take ``factor`` times as long, and decide the next segment.

        At least one update follows, so that the training ends with the end of an epoch.
        """
        record = self.record
        if self.is_measured:
            record.update_seconds = self._speed() * factor
            record.validation_updates /= factor
            self._recent_seconds, self._recent_updates = 0.0, 0
            self._decide(step, least=1)

    def after_update(self, step: int) -> None:
        """Measure the update; decide the next segment if this one is complete or late."""
        now = self.budget.used()
        seconds, self._last_time = now - self._last_time, now
        self.record.updating += seconds
        self.budget.note()
        if self._first:  # slower than the others: memory is allocated, workers start
            self._first = False
        else:
            self._recent_seconds += seconds
            self._recent_updates += 1
        if step >= self.record.segments[-1].stop or self._is_late(step, now):
            self._decide(step)

    def wants_validation(self, epoch: int, *, last: bool) -> bool:
        """Return whether an epoch ends with a validation.

        The last weights are validated if there is time; others as long as all validations together keep
        to their share of the time.
        """
        record, share = self.record, self.options.validate_share
        self._validation_began = self.budget.used()
        if last:
            return record.final_validation
        if epoch % self.options.validate_every or record.segments[-1].end >= 1:
            return False
        if share is None:
            return True
        seconds = self.validation_seconds or record.validation_updates * self._speed()
        left = self.budget.seconds - self._validation_began - self._end_seconds - 2 * seconds
        spent = record.validating + seconds
        return spent <= share * record.updating and spent + seconds <= share * (record.updating + left)

    def after_validation(self, step: int) -> None:
        """Measure a validation and decide the next segment."""
        record = self.record
        seconds = self.budget.used() - self._validation_began
        self._last_time += seconds
        record.validating += seconds
        record.validation_updates = seconds / max(self._speed(), 1e-9)
        if not record.finished:
            self._decide(step)

    def after_epoch(self) -> None:
        """Measure the end of an epoch."""
        now = self.budget.used()
        self.record.closing_seconds, self._last_time = now - self._last_time, now
        self.budget.note()

    def note_time(self) -> None:
        """Record the time used so far."""
        self.record.used = self.budget.used()
        self.budget.note(at_once=True)

    def is_overdue(self) -> bool:
        """Return whether the budget is exceeded."""
        return self.budget.used() > _OVERDUE * self.budget.seconds

    @property
    def _end_seconds(self) -> float:
        """Time for the end of the last epoch, the model file and the end of the process."""
        return 4 * self.record.closing_seconds + min(_END_SECONDS, _END_SHARE * self.budget.seconds)

    def _speed(self) -> float:
        """Seconds of an update, by the newest measurement."""
        if self._recent_updates:
            return self._recent_seconds / self._recent_updates
        return self.record.update_seconds or self.record.updating

    def _is_late(self, step: int, now: float) -> bool:
        segment = self.record.segments[-1]
        if not self.is_measured:
            return now - self._segment_began > self._expected_seconds or now > self.budget.seconds
        done = (step - self._expected_from) / (segment.stop - self._expected_from)
        slack = _LATE_SHARE * self.budget.seconds
        return now - self._segment_began > _LATE_FACTOR * done * self._expected_seconds + slack

    def _decide(self, step: int, *, least: int = 0) -> None:
        """End the current segment at ``step`` and decide the next one, of at least ``least`` updates."""
        record = self.record
        low = self._end_segment(step)
        first, record.update_seconds = not self.is_measured, self._speed()
        if first:
            expected = (self.budget.seconds - self.budget.used()) / max(record.update_seconds, 1e-9)
            record.validation_updates = self.select_validation(step + int(max(expected, 0)))
        self._recent_seconds, self._recent_updates = 0.0, 0
        left = self._time_left()
        count = max(self._updates_within(left), least) if low < 1 else 0
        record.expected_updates = step + count
        if count < 1:
            record.finished = True
            _LOGGER.debug("step %d: no time for more updates; the schedule ends at %.3f", step, low)
            return
        budget = self.budget.seconds
        length = left if left <= _LAST_SHARE * budget else min(_SEGMENT_SHARE * budget, left / 4)
        planned = count if length >= left else min(max(1, round(count * length / left)), count)
        high = 1.0 if planned == count else low + (1 - low) * planned / count
        self._add(Segment(step, step + planned, low, high), planned * record.update_seconds)

    def _end_segment(self, step: int) -> float:
        """End the current segment at ``step`` and return the position there."""
        segments = self.record.segments
        current = segments[-1]
        if step >= current.stop:
            return current.end
        segments.pop()
        if step > current.start:
            segments.append(current.cut(step))
        return current.position(step)

    def _time_left(self) -> float:
        """Time for updates and for the validations before the last one; decides on the latter."""
        record = self.record
        left = self.budget.seconds - self.budget.used() - self._end_seconds
        seconds, share = self.validation_seconds, self.options.validate_share
        rest = left - seconds
        spent, limit = (0.0, _LARGEST_SHARE) if share is None else (record.validating, share)
        late = 0.0
        if record.final_validation:  # measurements vary: what was planned is kept if possible
            limit, late = limit * _TOLERANCE, _LAST_SHARE * self.budget.seconds
        affordable = spent + seconds <= limit * (record.updating + max(rest, 0.0))
        record.final_validation = affordable and rest >= -late
        return rest if record.final_validation else left

    def _updates_within(self, left: float) -> int:
        """Number of updates that fit into ``left`` seconds, between validations and ends of epochs."""
        record, options = self.record, self.options
        each = record.update_seconds + record.closing_seconds / options.iterations
        if left <= 0:
            return 0
        seconds = self.validation_seconds
        if not seconds or left <= _LAST_SHARE * self.budget.seconds:
            return round(left / each)
        allowed = math.inf
        if options.validate_share is not None:
            future = options.validate_share * (record.updating + left) - record.validating
            allowed = seconds * max(future // seconds - record.final_validation, 0)
        every = left / (each + seconds / (options.validate_every * options.iterations))
        return round(max(every, (left - allowed) / each))

    def _add(self, segment: Segment, seconds: float) -> None:
        self.record.segments.append(segment)
        self._expect(segment.start, seconds)
        _LOGGER.debug(
            "step %d: %.0f of %.0f s used, %.3f s per update; updates %d to %d: schedule from %.3f to %.3f",
            segment.start, self.budget.used(), self.budget.seconds, self.record.update_seconds,
            segment.start + 1, segment.stop, segment.low, segment.high,
        )  # fmt: skip

    def _expect(self, step: int, seconds: float) -> None:
        """Note when the current segment should end."""
        self._segment_began, self._expected_seconds, self._expected_from = self._last_time, seconds, step
