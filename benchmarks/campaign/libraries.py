"""Networks of other libraries, untrained, built without a download where the library is installed."""

from campaign.cases import Case


def of_libraries() -> list[Case | str]:
    """Return cases, and a line for each library that is not installed."""
    return []
