"""Render the frames of a scene: figures moving together over a light texture, and a fixed sign.

Figures that leave the frame on one side re-enter on the other, and their start is random. So an
unordered set of frames doesn't reveal the direction of motion.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from m2hf.data_manifests.toybox.scene import FPS, FRAMES, HEIGHT, WIDTH, FigureGroup, Scene

SCALE = 2  # drawn this much larger and averaged down, for smooth edges
SIGN_BAND = 72  # pixels at the top or the bottom that are reserved for a sign
RADIUS = {"large": 44.0, "small": 26.0}  # pixels
TURNS = 0.5  # how often per second a figure crosses the whole frame
SHAKE = 22.0  # pixels to either side
SHAKES = 2.0  # per second

RGB = {
    "red": (222, 30, 36),
    "green": (24, 160, 60),
    "blue": (36, 80, 230),
    "yellow": (252, 224, 30),
    "orange": (255, 136, 12),
    "purple": (142, 44, 190),
    "pink": (255, 130, 190),
    "black": (25, 25, 25),
    "white": (252, 252, 252),
    "brown": (120, 72, 30),
    "turquoise": (40, 205, 205),
    "olive": (120, 125, 20),
}

Outline = NDArray[np.float64]  # (corners, 2): x to the right, y down, within the unit circle
RgbArray = NDArray[np.uint8]


class SceneRenderer:
    """Renders frames of a scene: its figures are drawn once, and shifted for each frame."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng(scene.seed)
        self._scene = scene
        self._speed = rng.uniform(0.85, 1.15)
        self._start = rng.uniform(size=2)
        still = Image.fromarray(_ground(scene.ground, rng))
        self._area = slice(0, HEIGHT)
        if scene.sign is not None:
            above = bool(rng.integers(2))
            _draw_sign(still, scene.sign, SIGN_BAND / 2 if above else HEIGHT - SIGN_BAND / 2)
            self._area = slice(SIGN_BAND, HEIGHT) if above else slice(0, HEIGHT - SIGN_BAND)
        self._still = still
        self._layer = _figures(scene, self._area.stop - self._area.start, rng)

    def frame(self, second: float) -> RgbArray:
        """(HEIGHT, WIDTH, 3) uint8 RGB at `second` of the clip."""
        image = self._still.copy()
        area = image.crop((0, self._area.start, WIDTH, self._area.stop))
        down, right = self._shift(second)
        moved = ImageChops.offset(self._layer, right, down)
        area.paste(moved, mask=moved.getchannel("A"))
        image.paste(area, (0, self._area.start))
        return np.asarray(image)

    def _shift(self, second: float) -> tuple[int, int]:
        """Pixels down and to the right, from where the figures were drawn."""
        height = self._area.stop - self._area.start
        turns = TURNS * self._speed * second
        x, y = self._start[0] * WIDTH, self._start[1] * height
        match self._scene.motion:
            case "right":
                return 0, round(x + turns * WIDTH)
            case "left":
                return 0, round(x - turns * WIDTH)
            case "down":
                return round(y + turns * height), 0
            case "up":
                return round(y - turns * height), 0
            case "shake":
                return 0, round(SHAKE * np.sin(2 * np.pi * (SHAKES * second + self._start[0])))
            case "still":
                return 0, 0
        raise ValueError(f"no motion {self._scene.motion!r}")


def frames(scene: Scene) -> Iterator[RgbArray]:
    """The scene's frames in order: FRAMES arrays of (HEIGHT, WIDTH, 3) uint8 RGB."""
    renderer = SceneRenderer(scene)
    for number in range(FRAMES):
        yield renderer.frame(number / FPS)


def _figures(scene: Scene, height: int, rng: np.random.Generator) -> Image.Image:
    """WIDTH x height, RGBA: each figure in a slot of its own, so that none overlap."""
    image = Image.new("RGBA", (WIDTH * SCALE, height * SCALE))
    slots = sum(group.count for group in scene.groups)
    place = 0
    for group in scene.groups:
        for _ in range(group.count):
            x, y, radius = _slot(scene, group, place, slots, height, rng)
            _draw_figure(image, group, x, y, radius)
            place += 1
    return image.reduce(SCALE)


def _slot(
    scene: Scene, group: FigureGroup, place: int, slots: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Centre and radius of one figure, in pixels."""
    spread = WIDTH if scene.place is None else min(WIDTH, slots * 2.4 * RADIUS[group.size])
    slot = spread / slots
    radius = min(RADIUS[group.size] * rng.uniform(0.9, 1.1), 0.47 * slot)
    left, top = (WIDTH - spread) / 2, height / 2
    match scene.place:
        case "left":
            left = 4.0
        case "right":
            left = WIDTH - spread - 4
        case "top":
            top = radius + 4
        case "bottom":
            top = height - radius - 4
        case "middle":
            pass
        case None:
            top += rng.uniform(-0.5, 0.5) * (height - 2 * radius - 8)
    return left + (place + 0.5) * slot, top, radius


def _draw_figure(image: Image.Image, group: FigureGroup, x: float, y: float, radius: float) -> None:
    pen = ImageDraw.Draw(image)
    if group.shape == "ring":
        edge = [(x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, 0.0]
        edge[3] = (y + radius) * SCALE
        rim = round(0.42 * radius * SCALE)
        pen.ellipse(edge, outline=(20, 20, 20), width=rim + 2 * SCALE)
        inner = [edge[0] + SCALE, edge[1] + SCALE, edge[2] - SCALE, edge[3] - SCALE]
        pen.ellipse(inner, outline=RGB[group.colour], width=rim - SCALE)
        return
    points = [(float(a), float(b)) for a, b in (_outline(group.shape) * radius + (x, y)) * SCALE]
    # The dark rim separates yellow from white and green from grey.
    pen.polygon(points, fill=RGB[group.colour])
    pen.line([*points, points[0], points[1]], fill=(20, 20, 20), width=2 * SCALE, joint="curve")


def _outline(shape: str) -> Outline:
    match shape:
        case "circle":
            return _ring(64)
        case "square":
            return np.array([(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)])
        case "triangle":
            return _ring(3)
        case "diamond":
            return np.array([(0, -1), (0.62, 0), (0, 1), (-0.62, 0)])
        case "star":
            corners = _ring(10)
            corners[1::2] *= 0.42
            return corners
        case "cross":
            a = 0.3
            quarter: Outline = np.array([(-a, -0.95), (a, -0.95), (a, -a)])
            turn = np.array([[0, 1], [-1, 0]])
            half = np.concatenate([quarter, quarter @ turn])
            return np.concatenate([half, -half])
        case "heart":
            t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return np.stack([16 * np.sin(t) ** 3, -2.5 - y], axis=1) / 17
        case "moon":
            # The inner arc ends where the outer one does.
            outer, inner = _arc(1.0, 0.0, np.pi * 0.8, 40), _arc(0.705, 0.42, np.pi * 0.686, 40)
            return np.concatenate([outer, inner[::-1]])
        case "arrow":
            head = [(1, 0), (0.15, -0.8), (0.15, -0.3), (-1, -0.3)]
            return np.array([*head, *[(x, -y) for x, y in head[:0:-1]]])
    raise ValueError(f"no shape {shape!r}")


def _ring(corners: int) -> Outline:
    """Corners of a regular polygon, the first at the top."""
    turn = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def _arc(radius: float, x: float, half: float, corners: int) -> Outline:
    """An arc around (x, 0), open to the right, `half` of it above and below."""
    turn = np.pi + np.linspace(-half, half, corners)
    return np.stack([x + radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _ground(ground: str, rng: np.random.Generator) -> RgbArray:
    """A light texture: (HEIGHT, WIDTH, 3) uint8 in two close tones of grey and a fine grain."""
    y, x = np.ogrid[0:HEIGHT, 0:WIDTH]
    step = int(rng.integers(22, 31))
    match ground:
        case "stripes":
            dark = (x + y) // (step // 2) % 2 == 0
        case "checks":
            dark = (x // step + y // step) % 2 == 0
        case "dots":
            dark = np.hypot(x % step - step / 2, y % step - step / 2) < 0.3 * step
        case "bricks":
            row = y // step
            dark = (y % step < 4) | ((x + row % 2 * step) % (2 * step) < 4)
        case "waves":
            dark = (y + 6 * np.sin(2 * np.pi * x / 64)) // (step // 2) % 2 == 0
        case "plain":
            dark = np.zeros((HEIGHT, WIDTH), dtype=bool)
        case "grid":
            dark = (x % step < 4) | (y % step < 4)
        case "zigzag":
            dark = (y + abs(x % (2 * step) - step)) // (step // 2) % 2 == 0
        case _:
            raise ValueError(f"no ground {ground!r}")
    grain = 3 * rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    tone = np.where(dark, np.float32(138), np.float32(196)) + grain
    tint = rng.uniform(-8, 8, 3)
    return np.stack([(tone + np.float32(of)).astype(np.uint8) for of in tint], axis=2)


def _draw_sign(image: Image.Image, word: str, y: float) -> None:
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=44)
    left, top, right, bottom = pen.textbbox((WIDTH / 2, y), word, font=font, anchor="mm")
    # No rim: OCR reads one next to the last letter as an I.
    pen.rectangle((left - 12, top - 12, right + 12, bottom + 12), fill=(255, 255, 255))
    pen.text((WIDTH / 2, y), word, fill=(10, 10, 10), font=font, anchor="mm")
