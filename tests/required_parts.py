"""pytest plugin of CI: a test that is skipped fails, unless what it lacks is a permission that no package gives."""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

_PERMISSIONS = re.compile(r"needs root|may not |not allowed here|unprivileged user")


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not _PERMISSIONS.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: with CI=true nothing may be missing: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse(report)
    return report
