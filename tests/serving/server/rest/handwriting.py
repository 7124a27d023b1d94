"""Handwritten digits as strokes."""

import math
import random


def _arc(x, y, width, height, start, end, points):
    angles = (math.radians(start + (end - start) * index / points) for index in range(points + 1))
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


# Points in a box of height 1, with y pointing down.
STROKES = {
    "0": [_arc(0.3, 0.5, 0.28, 0.5, -80, -440, 28)],
    "1": [[(0.1, 0.25), (0.3, 0), (0.3, 1)]],
    "2": [_arc(0.28, 0.27, 0.26, 0.27, 190, 390, 16) + [(0.3, 0.72), (0.02, 1), (0.58, 0.98)]],
    "3": [_arc(0.26, 0.25, 0.25, 0.25, 200, 440, 16) + _arc(0.26, 0.74, 0.29, 0.26, -80, 160, 16)],
    "4": [[(0.35, 0), (0.02, 0.62), (0.6, 0.62)], [(0.42, 0.35), (0.4, 1)]],
    "5": [[(0.52, 0.02), (0.12, 0.02), (0.08, 0.45), *_arc(0.26, 0.69, 0.27, 0.31, -130, 140, 18)]],
    "6": [[(0.4, 0), (0.2, 0.2), (0.06, 0.5), *_arc(0.28, 0.74, 0.25, 0.26, 200, -160, 24)]],
    "7": [[(0.03, 0.03), (0.56, 0.03), (0.22, 1)]],
    "8": [
        _arc(0.3, 0.25, 0.22, 0.25, -60, -270, 14)
        + _arc(0.3, 0.75, 0.27, 0.25, -90, 270, 24)
        + _arc(0.3, 0.25, 0.22, 0.25, 90, -60, 12)
    ],
    "9": [_arc(0.28, 0.28, 0.25, 0.28, -30, -380, 24) + [(0.5, 0.5), (0.42, 1)]],
}


def write(page, text: str, height: float, seed: int = 0) -> None:
    """Draws digits on the pad of a page with the mouse, with random sizes, positions and tremor.

    Args:
        page: Playwright's `Page`.
        text: str, the digits.
        height: float, height of the line in pixels.
        seed: int, seed of the random variations.
    """
    hand, pad = random.Random(seed), page.locator("canvas.pad").bounding_box()
    left = pad["x"] + 15
    for digit in text:
        size, wide, slant = height * hand.uniform(0.85, 1), hand.uniform(0.85, 1.15), hand.uniform(-0.05, 0.15)
        top = pad["y"] + 8 + hand.uniform(0, height - size)
        for stroke in STROKES[digit]:
            for index, (x, y) in enumerate(stroke):
                shake_x, shake_y = hand.gauss(0, 0.008), hand.gauss(0, 0.008)
                page.mouse.move(left + size * (wide * x + slant * (1 - y) + shake_x), top + size * (y + shake_y))
                if index == 0:
                    page.mouse.down()
            page.mouse.up()
        left += size * (0.6 * wide + hand.uniform(0.2, 0.4))
