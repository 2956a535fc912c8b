"""How an alerting is doing: what exporters show of it."""

from shmetrics.alerting.dispatch import Dispatch
from shmetrics.alerting.watch import Watch


class AlertingHealth:
    """The figures of a watch and of those whom it tells, for exporters: taken at once, then fixed."""

    def __init__(self, watch: Watch, dispatch: Dispatch) -> None:
        self.counts = dict(watch.engine.counts)
        """Announcements by severity; held back by ``silenced`` and ``cooldown``."""
        self.by_type = dict(watch.engine.by_type)
        self.active = watch.active()
        self.rules = len(watch.engine.rules)
        self.deliveries = dispatch.figures
