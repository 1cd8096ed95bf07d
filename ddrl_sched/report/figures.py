"""All charts of a report; one appears only where its data is."""

from collections.abc import Callable, Iterator

from ddrl_sched.report.chart import Chart
from ddrl_sched.report.figures_curves import learning_curves
from ddrl_sched.report.figures_delay import at_a_glance, delay_by_load, delay_tail, profile, reductions
from ddrl_sched.report.figures_inside import parts_of_delay, servers_over_time, servers_per_task
from ddrl_sched.report.material import Material

# in the order of the page
MAKERS: tuple[Callable[[Material], Iterator[Chart]], ...] = (
    delay_by_load,
    reductions,
    at_a_glance,
    profile,
    delay_tail,
    parts_of_delay,
    servers_per_task,
    servers_over_time,
    learning_curves,
)


def charts(material: Material) -> list[Chart]:
    """Every chart that the data allows."""
    makers = MAKERS if len(material.table) else (learning_curves,)
    return [chart for make in makers for chart in make(material)]
