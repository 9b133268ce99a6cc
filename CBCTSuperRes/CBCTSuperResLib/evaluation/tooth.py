"""The shape of a tooth with its roots, pulp chamber and canals, as signed distances in mm."""

from __future__ import annotations

from dataclasses import dataclass

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
