"""Reading pages back, with both parsers of prometheus_client; forging what is exported."""

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from shmetrics.exporters.prometheus import render
from tests.forge import fleet

_LOOKED_UP = tuple(f"shmetrics_worker_{name}" for name in ("cpu_", "resident_", "virtual_", "threads", "open_fds"))
"""What the kernel is asked for at each rendering."""


class Still:
    """A source that always has the same snapshot, and counts how often it was asked."""

    def __init__(self, snapshot=None):
        self.known = fleet() if snapshot is None else snapshot
        self.asked = 0

    def snapshot(self):
        self.asked += 1
        return self.known


def families_of(page, *, openmetrics=False):
    """The families on a page, by name; no name may stand there twice."""
    text = page.decode() if isinstance(page, bytes) else page
    parse = openmetrics_parser.text_string_to_metric_families if openmetrics else text_string_to_metric_families
    families = list(parse(text))
    by_name = {family.name: family for family in families}
    assert len(by_name) == len(families), "a name stands on the page twice"
    return by_name


def samples_of(families):
    """Every sample of some families: {(name, its labels): value}; none may be there twice."""
    samples = [sample for family in families for sample in family.samples]
    by_key = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(by_key) == len(samples), "a sample stands on the page twice"
    return by_key


def read(source, **options):
    """Every sample of a source's page, which reads the same in both formats."""
    still = Still(source.snapshot())
    text = samples_of(families_of(render(still, **options)).values())
    openmetrics = samples_of(families_of(render(still, openmetrics=True, **options), openmetrics=True).values())
    assert text.keys() == openmetrics.keys()
    assert all(value == openmetrics[key] for key, value in text.items() if not key[0].startswith(_LOOKED_UP))
    return text


def value(samples, name, **labels):
    """One sample's value."""
    return samples[name, tuple(sorted(labels.items()))]


def without_created(samples):
    """The samples without times of creation, which differ from process to process."""
    return {key: value for key, value in samples.items() if not key[0].endswith("_created")}
