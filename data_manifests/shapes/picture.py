"""The frames of a scene: shapes that move over a light texture, and a sign that stands still."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from m2hf.data_manifests.shapes.scene import FPS, HEIGHT, SECONDS, WIDTH, Figure, Scene

FRAMES = round(FPS * SECONDS)
SCALE = 2  # drawn this much larger and averaged down, for smooth edges
SIGN_BAND = 72  # pixels at the top or the bottom that a sign keeps to itself
RADIUS = 42.0  # pixels, at most

RGB = {
    "red": (222, 30, 36),
    "green": (24, 160, 60),
    "blue": (36, 80, 230),
    "yellow": (252, 224, 30),
    "orange": (255, 136, 12),
    "purple": (142, 44, 190),
}

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Outline = NDArray[np.float64]  # (corners, 2): x to the right, y down, within the unit circle


def frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """The scene's frames in order: FRAMES arrays of (HEIGHT, WIDTH, 3) uint8 RGB."""
    rng = np.random.default_rng(scene.seed)
    still = _enlarged(_ground(scene.ground, rng))
    top, bottom = 0.0, float(HEIGHT)
    if scene.sign is not None:
        above = bool(rng.integers(2))
        _draw_sign(still, scene.sign, SIGN_BAND / 2 if above else HEIGHT - SIGN_BAND / 2)
        top, bottom = (SIGN_BAND, HEIGHT) if above else (0, HEIGHT - SIGN_BAND)
    # Each figure has a lane of its own, so no figure and no sign is ever covered.
    lane = WIDTH / len(scene.figures)
    boxes = [(at * lane, top, (at + 1) * lane, bottom) for at in range(len(scene.figures))]
    for number in range(FRAMES):
        image = still.copy()
        for figure, box in zip(scene.figures, boxes, strict=True):
            _draw_figure(image, figure, box, number / (FRAMES - 1))
        yield np.asarray(image.reduce(SCALE))


def _draw_figure(image: Image.Image, figure: Figure, box: Box, moment: float) -> None:
    x, y, radius, angle = _pose(figure.motion, box, moment)
    cos, sin = np.cos(angle), np.sin(angle)
    corners = _outline(figure.shape) @ np.array([[cos, sin], [-sin, cos]])
    points = [(float(a), float(b)) for a, b in (corners * radius + (x, y)) * SCALE]
    # The dark rim keeps yellow off the white and green off the grey.
    pen = ImageDraw.Draw(image)
    pen.polygon(points, fill=RGB[figure.colour])
    pen.line([*points, points[0], points[1]], fill=(20, 20, 20), width=3 * SCALE, joint="curve")


def _pose(motion: str, box: Box, moment: float) -> tuple[float, float, float, float]:
    """Centre x and y and radius in pixels, angle in radians, at `moment` from 0 to 1."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    radius = min(RADIUS, 0.28 * min(right - left, bottom - top))
    near, far = left + radius + 4, right - radius - 4
    high, low = top + radius + 4, bottom - radius - 4
    match motion:
        case "right":
            return near + (far - near) * moment, y, radius, 0.0
        case "left":
            return far + (near - far) * moment, y, radius, 0.0
        case "up":
            return x, low + (high - low) * moment, radius, 0.0
        case "down":
            return x, high + (low - high) * moment, radius, 0.0
        case "spin":
            # Less than a whole turn, so that no frame repeats the first by the shape's symmetry.
            return x, y, radius, 2 * np.pi * 0.85 * moment
        case "bounce":
            return x, low + (high - low) * abs(np.sin(3 * np.pi * moment)), radius, 0.0
        case "grow":
            return x, y, radius * (0.35 + 1.2 * moment), 0.0
    raise ValueError(f"no motion {motion!r}")


def _outline(shape: str) -> Outline:
    match shape:
        case "circle":
            return _ring(64)
        case "square":
            return np.array([(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)])
        case "triangle":
            return _ring(3)
        case "star":
            corners = _ring(10)
            corners[1::2] *= 0.42
            return corners
        case "cross":
            a = 0.32
            quarter: Outline = np.array([(-a, -0.95), (a, -0.95), (a, -a)])
            turn = np.array([[0, 1], [-1, 0]])
            half = np.concatenate([quarter, quarter @ turn])
            return np.concatenate([half, -half])
        case "heart":
            t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return np.stack([16 * np.sin(t) ** 3, -2.5 - y], axis=1) / 17
    raise ValueError(f"no shape {shape!r}")


def _ring(corners: int) -> Outline:
    """Corners of a regular polygon, the first at the top."""
    turn = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def _ground(ground: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A light texture: (HEIGHT, WIDTH, 3) uint8 in two close tones of grey and a fine grain."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    step = int(rng.integers(20, 29))
    match ground:
        case "stripes":
            dark = (x + y) // (step // 2) % 2 == 0
        case "checks":
            dark = (x // step + y // step) % 2 == 0
        case "dots":
            dark = np.hypot(x % step - step / 2, y % step - step / 2) < 0.28 * step
        case "bricks":
            row = y // step
            dark = (y % step < 3) | ((x + row % 2 * step) % (2 * step) < 3)
        case "waves":
            dark = (y + 6 * np.sin(2 * np.pi * x / 64)) // (step // 2) % 2 == 0
        case _:
            raise ValueError(f"no ground {ground!r}")
    tone = np.where(dark, 150.0, 196.0) + rng.normal(0, 3, (HEIGHT, WIDTH))
    tint = rng.uniform(-8, 8, 3)
    return (tone[:, :, None] + tint).clip(0, 255).astype(np.uint8)


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1))


def _draw_sign(image: Image.Image, word: str, y: float) -> None:
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=44 * SCALE)
    middle = (WIDTH / 2 * SCALE, y * SCALE)
    left, top, right, bottom = pen.textbbox(middle, word, font=font, anchor="mm")
    edge = 12 * SCALE
    # No rim: OCR takes one beside the last letter for an I.
    pen.rectangle((left - edge, top - edge, right + edge, bottom + edge), fill=(255, 255, 255))
    pen.text(middle, word, fill=(10, 10, 10), font=font, anchor="mm")
