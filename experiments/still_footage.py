"""Made-up footage of a street, to tune video on: what stands still, what drives by, and what must not alarm.

Every scene has its own texture, contrast, crowd, noise and compression; some have a tree that sways or a gate that
opens and closes. `Street.normal` is footage to train on. `Street.clip` is one of `KINDS`: in `ANOMALIES` something
stands still that normal footage does not show, in `CARTS` carts drive by, three times as fast as people walk, and in
`NUISANCES` only the light, the camera or the noise changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

__all__ = ["ANOMALIES", "CARTS", "CHANGE_S", "KINDS", "NUISANCES", "RATE", "SCENES", "Scene", "Street"]

RATE = 10  # frames a second
HEIGHT, WIDTH = 128, 192  # px of the frames that are given; drawn at twice that
CHANGE_S = 8.0  # when the change of a clip begins
CLIP_S = 22.0
SLOW_S = 50.0  # length of the clip with slow light

ANOMALIES = ("walker stops", "thing left", "thing taken")
NUISANCES = ("nothing", "slow light", "light switched", "camera shakes", "more noise")
CARTS = ("cart", "cart, camera shakes")
KINDS = (*ANOMALIES, *NUISANCES, *CARTS)


@dataclass(frozen=True)
class Scene:
    """What a street looks like."""

    texture: str
    """tarmac, bricks, lawn or plain"""
    contrast: float
    """Grey levels: standard deviation of the texture."""
    walkers: float
    """The mean number in view."""
    noise: float
    """Grey levels: standard deviation."""
    quality: int
    """Of the JPEG compression."""
    tree: bool = False
    gate: bool = False


SCENES = (
    Scene("tarmac", 6, 3, 3, 85),
    Scene("bricks", 14, 5, 4, 75, gate=True),
    Scene("lawn", 20, 8, 5, 80, tree=True),
    Scene("plain", 3, 12, 3, 90),
    Scene("tarmac", 12, 10, 6, 65, tree=True, gate=True),
    Scene("bricks", 8, 2, 2, 95, tree=True),
)


@dataclass
class _Walker:
    """One who crosses the view; all of it in px of the drawing."""

    x: float
    y: float
    speed: float
    height: float
    torso: float
    legs: float
    phase: float
    stops_at: float | None = None
    """The x at which it stops for good."""


@dataclass
class _Cart:
    """One that crosses the view again and again, from the left to the right."""

    look: np.ndarray
    """(2, h, w): see `_thing`."""
    top: int
    """In px of the drawing."""
    speed: float
    """The same, a second."""

    def left(self, time_s: float) -> int:
        """Where it is, px of the drawing."""
        width: int = self.look.shape[2]
        return round(self.speed * (time_s - CHANGE_S) % (2 * WIDTH + width)) - width


_Change = Callable[[float], float]


@dataclass
class _Course:
    """What changes in a clip, as functions of time."""

    gain: _Change = field(default=lambda _: 1.0)
    tilt: _Change = field(default=lambda _: 0.0)
    """Relative difference of the light between left and right."""
    shake_px: _Change = field(default=lambda _: 0.0)
    noise: _Change = field(default=lambda _: 1.0)
    left: _Change = field(default=lambda _: 0.0)
    """1 while a thing stands there that did not."""
    taken: bool = False
    stops: bool = False
    cart: _Cart | None = None


class Street:
    """One scene with its people; the same seed gives the same footage.

    Args:
        scene: what it looks like.
        seed: of everything that is drawn.
    """

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene, self._seed = scene, seed
        generator = np.random.default_rng([seed, 0])
        self._ground = _ground(scene, generator)
        self._bin = _thing(generator, 26), (150, int(generator.integers(60, 300)))
        """A thing that stands there in all normal footage."""
        self._slow = generator.uniform(0, 6.28)

    def normal(self, seconds: float, seed: int) -> np.ndarray:
        """(F, 128, 192) uint8: people walk."""
        return self._film(_Course(), seconds, np.random.default_rng([self._seed, 1, seed]))

    def clip(self, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames (F, 128, 192) uint8 of one of the kinds, and (F,) bool: an anomaly is there."""
        # a cart looks the same whether the camera shakes or not
        generator = np.random.default_rng([self._seed, 2, seed, KINDS.index("cart" if kind in CARTS else kind)])
        seconds = SLOW_S if kind == "slow light" else CLIP_S
        frames = self._film(_course(kind, generator), seconds, generator)
        after = np.arange(len(frames)) >= CHANGE_S * RATE
        return frames, after & (kind in (*ANOMALIES, *CARTS))

    def _film(self, course: _Course, seconds: float, generator: np.random.Generator) -> np.ndarray:
        people = _People(self.scene.walkers, generator, stops=course.stops)
        thing, place = _thing(generator, float(generator.uniform(14, 26))), _on_the_way(generator)
        started, across = generator.uniform(0, 1000), np.linspace(-0.5, 0.5, 2 * WIDTH, dtype=np.float32)
        frames, shift = [], np.zeros(2)
        for number in range(round(seconds * RATE)):
            time_s = number / RATE
            picture = self._ground.copy()
            self._move_scenery(picture, started + time_s)
            if not (course.taken and time_s >= CHANGE_S):
                _paste(picture, self._bin[0], *self._bin[1])
            if course.left(time_s):
                _paste(picture, thing, *place)
            for walker in people.at(time_s):
                _draw_walker(picture, walker)
            if course.cart and time_s >= CHANGE_S:
                _paste(picture, course.cart.look, course.cart.top, course.cart.left(time_s))
            light = course.gain(time_s) * (1 + 0.03 * np.sin(self._slow + (started + time_s) / 20))
            picture *= light * (1 + course.tilt(time_s) * across)
            if size := course.shake_px(time_s):
                shift = np.clip(0.5 * shift + generator.normal(0, size, 2), -2 * size, 2 * size)
                picture = _shifted(picture, *shift)
            noise = generator.standard_normal(picture.shape, dtype=np.float32)
            picture += self.scene.noise * course.noise(time_s) * noise
            frames.append(_compressed(picture, self.scene.quality))
        return np.stack(frames)

    def _move_scenery(self, picture: np.ndarray, time_s: float) -> None:
        if self.scene.tree:
            rows, columns = slice(0, 70), slice(20, 120)
            bend = 1.6 * np.sin(1.9 * time_s) + 0.9 * np.sin(3.1 * time_s + 1)
            y, x = np.mgrid[rows, columns].astype(np.float32)
            sway = bend * (70 - y) / 70
            picture[rows, columns] = map_coordinates(self._ground, [y, x + sway], order=1, mode="nearest")
        if self.scene.gate and time_s % 37 < 14:
            picture[20:80, 290:330] = 0.6 * picture[20:80, 290:330] + 10  # open: one sees the dark behind it


def _course(kind: str, generator: np.random.Generator) -> _Course:
    """What changes in a clip of this kind."""
    later: _Change = lambda time_s: float(time_s >= CHANGE_S)  # noqa: E731  one short rule of several
    if kind == "walker stops":
        return _Course(stops=True)
    if kind == "thing left":
        return _Course(left=later)
    if kind == "thing taken":
        return _Course(taken=True)
    if kind == "slow light":
        depth, tilt = generator.uniform(0.3, 0.45), generator.uniform(-0.3, 0.3)
        wave: _Change = lambda time_s: float(np.sin(np.pi * time_s / SLOW_S) ** 2)  # noqa: E731  one short rule of several
        return _Course(gain=lambda t: 1 - depth * wave(t), tilt=lambda t: tilt * wave(t))
    if kind == "light switched":
        gain, tilt = float(generator.choice([0.6, 0.75, 1.3])), generator.uniform(-0.4, 0.4)
        return _Course(gain=lambda t: gain if later(t) else 1.0, tilt=lambda t: tilt * later(t))
    if kind == "camera shakes":
        return _Course(shake_px=_shake(generator))
    if kind == "more noise":
        return _Course(noise=lambda t: 1 + 1.0 * later(t))
    if kind in CARTS:
        return _Course(cart=_cart(generator), shake_px=_shake(generator) if "shakes" in kind else lambda _: 0.0)
    return _Course()


def _shake(generator: np.random.Generator) -> _Change:
    size = float(generator.uniform(1.0, 2.5))
    return lambda time_s: size * (time_s >= CHANGE_S)


class _People:
    """Those in view: as one leaves, another comes after a while."""

    def __init__(self, number: float, generator: np.random.Generator, *, stops: bool) -> None:
        self._generator, self._number = generator, number
        self._here = [_walker(generator) for _ in range(generator.poisson(number))]
        for walker in self._here:
            walker.x = generator.uniform(0, 2 * WIDTH)
        if stops:
            stopping = _walker(generator)
            stopping.stops_at = generator.uniform(60, 2 * WIDTH - 60)
            stopping.x = stopping.stops_at - stopping.speed * CHANGE_S * RATE
            self._here.append(stopping)

    def at(self, time_s: float) -> Iterator[_Walker]:
        """Each, moved on by a frame, the far ones first."""
        for walker in self._here:
            if walker.stops_at is not None and abs(walker.x - walker.stops_at) <= abs(walker.speed):
                walker.x = walker.stops_at + self._generator.normal(0, 0.5)  # nobody stands like a stone
                walker.phase = 0.3
            else:
                walker.x += walker.speed
                walker.phase += abs(walker.speed) / walker.height * 5
        self._here = [w for w in self._here if -400 < w.x < 2 * WIDTH + 400 and not _gone(w)]
        # who is in view stays about 150 frames, so this keeps their number
        if self._generator.random() < self._number / 150:
            self._here.append(_walker(self._generator))
        yield from sorted(self._here, key=lambda walker: walker.y)


def _cart(generator: np.random.Generator) -> _Cart:
    walker = _walker(generator)
    look = _thing(generator, 1.4 * walker.height)
    return _Cart(look, round(walker.y) - look.shape[1], 3 * abs(walker.speed) * RATE)


def _gone(walker: _Walker) -> bool:
    return walker.x > 2 * WIDTH + 20 if walker.speed > 0 else walker.x < -20


def _walker(generator: np.random.Generator) -> _Walker:
    y = generator.uniform(95, 2 * HEIGHT - 8)
    height = (16 + 0.16 * y) * generator.uniform(0.85, 1.15)
    speed = height / 18 * generator.uniform(0.8, 1.3) * generator.choice([-1, 1])
    torso, legs = generator.uniform(25, 215, 2)
    return _Walker(-15 if speed > 0 else 2 * WIDTH + 15, y, speed, height, torso, legs, generator.uniform(0, 6.28))


def _draw_walker(picture: np.ndarray, walker: _Walker) -> None:
    height, stride = walker.height, np.sin(walker.phase)
    top, left = walker.y - height, walker.x - height / 2
    rows, columns = _inside(top, left, height, height, picture.shape)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    y = ((np.arange(rows.start, rows.stop) - top) / height)[:, None]
    x = ((np.arange(columns.start, columns.stop) - left) / height - 0.5)[None]
    soft = 12 / height
    head = _within(np.hypot(x, (y - 0.1)) / 0.085, soft)
    body = _within(np.hypot(x / 0.13, (y - 0.38) / 0.24), soft)
    apart = 0.16 * stride * (y - 0.5)
    legs = np.maximum(_within(np.abs(x - apart) / 0.05, soft), _within(np.abs(x + apart) / 0.05, soft)) * (y > 0.5)
    part = picture[rows, columns]
    for share, grey in ((legs, walker.legs), (body, walker.torso), (head, 150.0)):
        part += share * (grey - part)


def _within(distance: np.ndarray, soft: float) -> np.ndarray:
    """1 where a distance is below 1, 0 where it is above, with a soft edge."""
    share: np.ndarray = np.clip((1 - distance) / (2 * soft) + 0.5, 0, 1)
    return share


def _thing(generator: np.random.Generator, side: float) -> np.ndarray:
    """(2, h, w): grey levels and opacity of a bag or a box."""
    height, width = round(side * generator.uniform(0.7, 1.2)), round(side)
    grey = np.full((height, width), generator.choice([generator.uniform(20, 75), generator.uniform(165, 225)]))
    grey += gaussian_filter(generator.normal(0, 30, grey.shape), 1.5)
    grey[: height // 4] += generator.uniform(-25, 25)
    solid = np.zeros_like(grey)
    solid[1:-1, 1:-1] = 1
    return np.stack([grey, gaussian_filter(solid, 0.8)])


def _on_the_way(generator: np.random.Generator) -> tuple[int, int]:
    """Top and left of a place where people walk."""
    return int(generator.integers(80, 2 * HEIGHT - 34)), int(generator.integers(10, 2 * WIDTH - 40))


def _paste(picture: np.ndarray, thing: np.ndarray, top: int, left: int) -> None:
    grey, share = thing[:, :, max(0, -left) : max(0, picture.shape[1] - left)]
    left = max(0, left)
    part = picture[top : top + grey.shape[0], left : left + grey.shape[1]]
    part += share * (grey - part)


def _inside(top: float, left: float, height: float, width: float, size: tuple[int, ...]) -> tuple[slice, slice]:
    rows = slice(max(0, int(top)), min(size[0], int(top + height) + 1))
    return rows, slice(max(0, int(left)), min(size[1], int(left + width) + 1))


def _ground(scene: Scene, generator: np.random.Generator) -> np.ndarray:
    """(256, 384) float32 grey levels without people."""
    size = 2 * HEIGHT, 2 * WIDTH
    fine = gaussian_filter(generator.normal(size=size), 1.0)
    coarse = gaussian_filter(generator.normal(size=size), 6)
    y, x = np.mgrid[: size[0], : size[1]]
    pattern = {
        "tarmac": fine / fine.std() + 0.5 * coarse / coarse.std(),
        "lawn": fine / fine.std() + coarse / coarse.std(),
        "plain": coarse / coarse.std(),
        "bricks": ((x + 9 * (y // 10 % 2)) % 18 < 2).astype(float) * 2
        + (y % 10 < 2) * 2
        + 0.4 * fine / fine.std(),
    }[scene.texture]
    light = generator.uniform(100, 150) + generator.uniform(-20, 20) * (x / size[1] - 0.5)
    picture = light + scene.contrast * (pattern - pattern.mean())
    wall = int(generator.integers(50, 75))
    picture[:wall] += generator.uniform(-45, 35)  # a building behind the street
    for left in range(10, size[1] - 30, 44):
        picture[10 : wall - 14, left : left + 22] -= generator.uniform(10, 45)
    picture[wall + 25 : wall + 29] += 35  # a kerb
    ground: np.ndarray = picture.clip(15, 235).astype(np.float32)
    return ground


def _shifted(picture: np.ndarray, down: float, right: float) -> np.ndarray:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    shifted: np.ndarray = map_coordinates(picture, [y - down, x - right], order=1, mode="nearest")
    return shifted


def _compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """(128, 192) uint8: compressed as a JPEG at the size of the drawing, and halved."""
    file = BytesIO()
    Image.fromarray(picture.round().clip(0, 255).astype(np.uint8)).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file, formats=["JPEG"]).reduce(2))
