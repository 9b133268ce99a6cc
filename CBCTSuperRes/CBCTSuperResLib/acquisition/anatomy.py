"""The shape of a tooth with its roots, pulp chamber and canals, as signed distances in mm.

A piece of jaw as a function of position: what a phantom scan and a training slice are sampled from.

Every boundary is a signed distance in mm, so that the share of a voxel on its inside can be written down directly and
edges come out anti-aliased. Sizes follow anatomy: cortical shell 0.8-3 mm, trabeculae of 0.14 mm filling 0.19 of the
marrow space, enamel 0.6-2 mm, root canals 0.15-0.6 mm, periodontal gap 0.2 mm, lamina dura 0.25 mm, mandibular canal
2-3 mm with a wall of 0.3 mm. Only the heights are squeezed where the field of view is shallow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np


def ellipse_distance(u: np.ndarray, v: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """First-order signed distance to the ellipse (u/a)^2 + (v/b)^2 = 1."""
    rho = np.sqrt((u / a) ** 2 + (v / b) ** 2) + np.float32(1e-6)
    slope = np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2) / rho + np.float32(1e-6)
    return (rho - 1) / slope


@dataclass(frozen=True)
class Tooth:
    """Place and shape of one tooth; lengths in mm, z is measured from the alveolar crest.

    A tooth without `canals` has neither pulp chamber nor root canals; none of them is found in nature, and whoever
    shows one there has invented it.
    """

    s: float
    n: float
    tilt: tuple[float, float]
    crown: tuple[float, float, float]
    root_length: float
    roots: int
    spread: float
    canal_radius: float
    bend: tuple[float, float]
    enamel: float
    metal: bool
    canals: bool = True

    @staticmethod
    def random(rng: np.random.Generator, s: float, crown_height: float, root_length: float, metal: bool) -> Tooth:
        return Tooth(
            s=s + rng.uniform(-0.3, 0.3),
            n=rng.uniform(-0.6, 0.6),
            tilt=tuple(rng.uniform(-0.12, 0.12, 2)),
            crown=(rng.uniform(2.6, 3.3), rng.uniform(3.2, 4.2), crown_height * rng.uniform(0.85, 1.1)),
            root_length=root_length * rng.uniform(0.85, 1.1),
            roots=int(rng.integers(1, 3)),
            spread=rng.uniform(1.2, 1.9),
            canal_radius=rng.uniform(0.16, 0.30),
            bend=tuple(rng.uniform(-0.6, 0.6, 2)),
            enamel=rng.uniform(0.9, 1.8),
            metal=metal,
        )

    def local(self, s: np.ndarray, n: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return s - self.s - self.tilt[0] * z, n - self.n - self.tilt[1] * z

    def root_centres(self, z: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Centre (u, v) of each root, and of its canal, at some heights."""
        depth = np.clip(-z / self.root_length, 0, 1.2)
        bend = [np.float32(b) * depth**2 for b in self.bend]
        if self.roots == 1:
            return [(bend[0], bend[1])]
        apart = np.float32(self.spread) * np.clip(depth * 1.6, 0, 1)
        return [(bend[0] + side * apart, bend[1] * side) for side in (np.float32(-1), np.float32(1))]

    def surface(self, u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance to the outside of crown and roots."""
        width, depth, height = (np.float32(c) for c in self.crown)
        rise = np.clip(z / height, -1, 1)
        bulge = np.where(z > 0, 0.80 + 0.25 * np.sin(np.pi * np.clip(rise, 0, 1) * 0.8), 0.80).astype(np.float32)
        top = z - height - np.float32(0.35) * np.cos(2.2 * u) * np.cos(2.0 * v)
        crown = np.maximum(np.maximum(ellipse_distance(u, v, width * bulge, depth * bulge), top), -z - np.float32(0.8))
        taper = np.sqrt(np.clip(1.08 + z / np.float32(self.root_length), 0.02, 1)).astype(np.float32)
        scale = np.float32(0.80 if self.roots == 1 else 0.52)
        reach = np.maximum(z - np.float32(0.3), -z - np.float32(self.root_length))
        for a, b in self.root_centres(z):
            root = ellipse_distance(u - a, v - b, width * scale * taper, depth * np.float32(0.78) * taper)
            crown = np.minimum(crown, np.maximum(root, reach))
        return crown

    def canal_radius_at(self, z: np.ndarray) -> np.ndarray:
        """Half the width of the canals at some heights; across it they are 1.35 times as wide."""
        depth = np.clip(-z / np.float32(self.root_length), 0, 1)
        return np.float32(self.canal_radius) * (1 - depth) + np.float32(0.075) * depth

    def pulp(self, u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance to the pulp chamber and the root canals."""
        height = np.float32(self.crown[2])
        centre, half = np.float32(0.15) * height, np.float32(0.28) * height + np.float32(0.4)
        flat = np.sqrt(np.clip(1 - ((z - centre) / half) ** 2, 1e-3, 1))
        chamber = np.maximum(ellipse_distance(u, v, 1.1 * flat, 1.4 * flat), np.abs(z - centre) - half)
        radius = self.canal_radius_at(z)
        reach = np.maximum(z - centre, -z - np.float32(self.root_length - 0.3))
        for a, b in self.root_centres(z):
            canal = ellipse_distance(u - a, v - b, radius, radius * np.float32(1.35))
            chamber = np.minimum(chamber, np.maximum(canal, reach))
        return chamber


LATTICE = 32
STRUT_THRESHOLD = 0.15


@dataclass(frozen=True)
class Levels:
    """Grey levels of the tissues in units of the window [26000, 46000] of an Accuitomo-like scanner."""

    air: float = -0.20
    soft: float = 0.15
    marrow: float = 0.06
    bone: float = 0.70
    pulp: float = 0.14
    dentin: float = 0.80
    enamel: float = 1.15
    metal: float = 1.95

    def scaled(self, gain: float, offset: float) -> Levels:
        """The levels of another scanner, gain * level + offset."""
        return replace(self, **{f.name: gain * getattr(self, f.name) + offset for f in fields(self)})

    @staticmethod
    def random(rng: np.random.Generator, spread: float = 0.05) -> Levels:
        """Levels scattered by a normal distribution of standard deviation `spread`; metal stays bright."""
        base = Levels()
        return Levels(**{f.name: getattr(base, f.name) + rng.normal(0, spread) for f in fields(base)})


STANDARD_LEVELS = Levels()


class Waves:
    """A smooth random function of position: a few sines of random direction, mean 0 and standard deviation about 1."""

    def __init__(self, rng: np.random.Generator, wavelength_mm: float, terms: int = 5, axes: int = 3) -> None:
        direction = rng.normal(size=(terms, axes))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        self._k = (2 * np.pi / wavelength_mm * direction * rng.uniform(0.6, 1.6, (terms, 1))).astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, terms).astype(np.float32)

    def __call__(self, *position: np.ndarray) -> np.ndarray:
        total = sum(
            np.sin(sum(k * x for k, x in zip(row, position, strict=True)) + phase)
            for row, phase in zip(self._k, self._phase, strict=True)
        )
        return total * np.float32(np.sqrt(2 / len(self._phase)))


class Struts:
    """Connected rods along the edges of Voronoi cells, after the trabecular network of cancellous bone.

    A point is in a strut where the third nearest seed is hardly farther than the nearest, d3 - d1 < threshold. One seed
    is drawn in every cell of a cubic lattice, which makes the three nearest ones a search among 27 neighbours.
    """

    def __init__(self, rng: np.random.Generator, spacing_mm: float = 0.9) -> None:
        self._spacing = np.float32(spacing_mm)
        self._jitter = rng.uniform(0.1, 0.9, (LATTICE**3, 3)).astype(np.float32)
        self._warp = [Waves(rng, 4 * spacing_mm) for _ in range(3)]

    def excess(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, chunk: int = 1 << 15) -> np.ndarray:
        """d3 - d1 in mm at the points given by three flat arrays."""
        out = np.empty(x.shape, np.float32)
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            out[part] = self._excess(x[part], y[part], z[part])
        return out

    def _excess(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        bent = (np.float32(0.25) * warp(x, y, z) for warp in self._warp)
        position = [p / self._spacing + b for p, b in zip((x, y, z), bent, strict=True)]
        cell = [np.floor(p).astype(np.int32) for p in position]
        inside = [p - c for p, c in zip(position, cell, strict=True)]
        first, second, third = (np.full(x.shape, 99, np.float32) for _ in range(3))
        for shift in product((-1, 0, 1), repeat=3):
            a, b, c = ((n + s) % LATTICE for n, s in zip(cell, shift, strict=True))
            seed = self._jitter[(a * LATTICE + b) * LATTICE + c]
            distance = sum((seed[:, axis] + np.float32(shift[axis]) - inside[axis]) ** 2 for axis in range(3))
            np.minimum(third, np.maximum(second, distance), out=third)
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
        return (np.sqrt(third) - np.sqrt(first)) * self._spacing


def share_inside(distance: np.ndarray, edge: float) -> np.ndarray:
    """Share of a voxel of width `edge` on the negative side of a boundary at the signed `distance` from its centre."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge), 0, 1)


def mix(values: np.ndarray, share: np.ndarray, level: np.ndarray | float) -> None:
    """Fill a share of every voxel with another level, in place."""
    values += share * (level - values)


class JawSection:
    """A piece of lower jaw with its teeth around the origin.

    Parameters
    ----------
    seed : int
        All shapes follow from it.
    extent_mm : (x, y, z)
        Size of the field of view; decides how much of the dental arch and which heights are seen.
    levels : Levels
        Grey levels of the tissues.
    metal : bool
        Put a metal crown onto one tooth.
    strut_spacing_mm : float
        Distance between the seeds of the trabecular network.
    """

    ARCH_RADIUS = 24.0
    ARCH_END_MM = 46.0
    TOOTH_PITCH = 7.4

    def __init__(
        self,
        seed: int,
        extent_mm: tuple[float, float, float],
        levels: Levels = STANDARD_LEVELS,
        metal: bool = False,
        strut_spacing_mm: float = 0.9,
    ) -> None:
        rng = np.random.default_rng([seed, 0x1A])
        self.levels = levels
        self._height = float(extent_mm[2])
        self._apex_y = -min(self.ARCH_RADIUS, 0.22 * float(min(extent_mm[:2])))
        self._crest = 0.16 * self._height
        crown, root = min(7.0, 0.30 * self._height), min(13.0, 0.42 * self._height)
        reach = min(self.ARCH_END_MM - 10, max(extent_mm[:2]))
        places = np.arange(-reach, reach + 1e-6, self.TOOTH_PITCH) + rng.uniform(-3, 3)
        chosen = int(np.argmin(np.abs(places)))
        self.teeth = [Tooth.random(rng, s, crown, root, metal and t == chosen) for t, s in enumerate(places)]
        self._struts = Struts(rng, strut_spacing_mm)
        lengths = {"width": 18, "crest": 9, "cheek": 25}
        self._shape = {name: Waves(rng, length, axes=2) for name, length in lengths.items()}
        self._cortex, self._density, self._shade = Waves(rng, 11), Waves(rng, 7), Waves(rng, 9)
        self._canal = (rng.uniform(-1.5, 1.5), -0.42 * self._height, min(rng.uniform(1.0, 1.5), 0.14 * self._height))
        self._wander = Waves(rng, 20, axes=1)

    def values(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, edge: float) -> np.ndarray:
        """Levels at the points (x, y, z) in mm, flat float32 arrays, averaged over voxels of width `edge` mm."""
        radius, centre = np.float32(self.ARCH_RADIUS), np.float32(self._apex_y + self.ARCH_RADIUS)
        s, n = radius * np.arctan2(x, centre - y), np.hypot(x, y - centre) - radius
        height = z - np.float32(self._crest)
        envelope = self._envelope(s, n, height)
        values = np.full(x.shape, self.levels.air, np.float32)
        cheek = envelope - np.float32(3.5) - self._shape["cheek"](s, height)
        mix(values, share_inside(cheek, edge), self.levels.soft + np.float32(0.015) * self._shade(x, y, z))
        self._add_bone(values, envelope, (x, y, z), (s, n, height), edge)
        for tooth in self.teeth:
            self._add_tooth(values, tooth, envelope, s, n, height, edge)
        return values

    def position(self, tooth: Tooth, u: float, v: float, height: float) -> tuple[float, float, float]:
        """Where in the field of view, (x, y, z) in mm, a point of a tooth's own frame is."""
        s, n = u + tooth.s + tooth.tilt[0] * height, v + tooth.n + tooth.tilt[1] * height
        angle, across = s / self.ARCH_RADIUS, self.ARCH_RADIUS + n
        centre = self._apex_y + self.ARCH_RADIUS
        return float(across * np.sin(angle)), float(centre - across * np.cos(angle)), float(height + self._crest)

    def _envelope(self, s: np.ndarray, n: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Signed distance to the outside of the bone: a rounded box across the arch."""
        half = np.float32(5.6) + np.float32(0.5) * self._shape["width"](s, height)
        top = height - np.float32(0.25) * self._shape["crest"](s, n)
        low = np.float32(-0.95 * self._height)
        corner = np.float32(2.2)
        a, b = np.abs(n) - half + corner, np.abs(top - low / 2) + low / 2 + corner
        box = np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - corner
        return np.maximum(box, np.abs(s) - np.float32(self.ARCH_END_MM))

    def _add_bone(self, values, envelope, point, local, edge: float) -> None:
        seen = np.flatnonzero(envelope < edge)
        envelope = envelope[seen]
        x, y, z = (p[seen] for p in point)
        s, n, height = (p[seen] for p in local)
        bone = values[seen]
        mix(bone, share_inside(envelope, edge), self.levels.bone)
        shell = np.clip(1.5 + 0.55 * self._cortex(x, y, z), 0.8, 3.0).astype(np.float32)
        marrow = share_inside(envelope + shell, edge)
        inner = np.flatnonzero(marrow > 0)
        x, y, z = x[inner], y[inner], z[inner]
        threshold = np.maximum(STRUT_THRESHOLD + 0.03 * self._density(x, y, z), 0.07)
        strut = share_inside((self._struts.excess(x, y, z) - threshold) / np.float32(1.5), edge)
        cancellous = self.levels.marrow + strut * np.float32(self.levels.bone - self.levels.marrow)
        bone[inner] += marrow[inner] * (cancellous - bone[inner])
        side, depth, radius = self._canal
        wander = self._wander(s)
        across, along = n - np.float32(side) - 0.4 * wander, height - np.float32(depth) - 0.3 * wander
        canal = np.hypot(across, along) - np.float32(radius)
        mix(bone, share_inside(canal - np.float32(0.3), edge), self.levels.bone)
        mix(bone, share_inside(canal, edge), self.levels.soft)
        values[seen] = bone

    def _add_tooth(self, values, tooth: Tooth, envelope, s, n, height, edge: float) -> None:
        near = np.flatnonzero((np.abs(s - np.float32(tooth.s)) < 6.5) & (np.abs(n - np.float32(tooth.n)) < 7))
        if not len(near):
            return
        z = height[near]
        u, v = tooth.local(s[near], n[near], z)
        surface = tooth.surface(u, v, z)
        part = np.flatnonzero(surface < 0.6)
        near, u, v, z, surface = near[part], u[part], v[part], z[part], surface[part]
        body, level = values[near], self.levels
        in_bone = share_inside(envelope[near], edge)
        mix(body, share_inside(surface - np.float32(0.45), edge) * in_bone, level.bone)
        mix(body, share_inside(surface - np.float32(0.20), edge) * in_bone, level.soft)
        whole = share_inside(surface, edge)
        mix(body, whole, level.dentin)
        thickness = np.float32(tooth.enamel) * np.clip(0.35 + z / np.float32(tooth.crown[2]), 0.3, 1)
        coat = whole * share_inside(-surface - thickness, edge) * share_inside(np.float32(0.2) - z, edge)
        mix(body, coat, level.metal if tooth.metal else level.enamel)
        if tooth.canals:
            mix(body, share_inside(tooth.pulp(u, v, z), edge), level.pulp)
        values[near] = body
