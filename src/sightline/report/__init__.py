"""Records to what people look at: pages, pictures, and tables for the terminal. No torch."""

from sightline.report.dataset import dataset_report
from sightline.report.demo import render_demo
from sightline.report.page import render_run
from sightline.report.plots import plot_loss
from sightline.report.terminal import certificate_table, demo_table, plan_table

__all__ = [
    "certificate_table",
    "dataset_report",
    "demo_table",
    "plan_table",
    "plot_loss",
    "render_demo",
    "render_run",
]
