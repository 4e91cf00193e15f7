"""What tests of the lessons read off a page, and the numbers that the first lesson begins with."""

import numpy as np
from playwright.sync_api import Locator, Page

from rot180.equations.convolution import correlation

IMAGE = np.array([[3, 3, 4, 5], [1, 1, 5, 5], [2, 2, 5, 3], [2, 5, 2, 3]], float)
KERNEL = np.array([[4, 1], [-3, -2]], float)
TARGET = np.array([[9, 7, -2], [-2, -9, 6], [-6, -4, 14]], float)
"""The numbers that the first lesson begins with; the bias is 1."""


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def z(image: np.ndarray = IMAGE, kernel: np.ndarray = KERNEL) -> np.ndarray:
    return correlation(image[None, None], kernel[None, None])[0, 0] + 1


def panel(page: Page) -> Locator:
    return page.locator(".lesson-panel:visible")


def cell(page: Page, name: str) -> Locator:
    """Return the first cell of this name, as z[0,1], in the step that is shown."""
    return panel(page).get_by_role("gridcell", name=f"{name} = ", exact=False).first


def shown(page: Page, title: str) -> np.ndarray:
    """Return the numbers of the grid under a title."""
    box = panel(page).locator(".lesson-grid-box").filter(has_text=title).first
    rows = box.locator("tr").all()
    return np.array(
        [[number(one) for one in row.locator("td > span").all_inner_texts()] for row in rows]
    )


def total(page: Page) -> float:
    return number(panel(page).locator(".lesson-sum-total output").first.inner_text())


def wait_for(page: Page, title: str, value: float) -> None:
    """Wait until the first number of a grid is a certain one."""
    box = panel(page).locator(".lesson-grid-box").filter(has_text=title).first
    text = f"{value:.4g}".replace("-", "−")
    box.locator("td > span").first.filter(has_text=text).wait_for()
