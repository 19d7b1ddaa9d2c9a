"""Synthetic labelled prompts for the routing tests: topics that models are good or bad at. Ours, and made in milliseconds."""

from __future__ import annotations

import random

import numpy as np

from opentracy.routing import Labels

TOPICS = {
    "cooking": "soup onion garlic oven bake flour butter recipe pepper boil roast pan sauce dinner salt bread",
    "space": "planet orbit rocket moon star galaxy gravity telescope comet satellite astronaut launch mars sun",
    "code": "function python list string loop variable class return integer array compile debug code script",
    "music": "guitar song melody rhythm piano chord band album concert singer drum violin note tempo choir",
    "law": "court contract judge lawyer statute appeal liability evidence trial clause defendant verdict rights",
    "sport": "football goal team match player coach league tennis score race medal champion stadium referee",
}
MODELS = ("lab/allround", "lab/coder", "lab/star", "lab/cheap")
# chance that a model answers a topic right, in the order of TOPICS
SKILL = {
    "lab/allround": (0.75, 0.70, 0.55, 0.75, 0.75, 0.70),
    "lab/coder": (0.35, 0.40, 0.95, 0.35, 0.40, 0.40),
    "lab/star": (0.45, 0.95, 0.45, 0.50, 0.40, 0.45),
    "lab/cheap": (0.60, 0.35, 0.25, 0.60, 0.40, 0.60),
}
COST = {"lab/allround": 0.004, "lab/coder": 0.003, "lab/star": 0.003, "lab/cheap": 0.0002}


def prompt(topic: str, rng: random.Random) -> str:
    words = TOPICS[topic].split()
    a, b, c, d = rng.sample(words, 4)
    forms = (
        f"How does the {a} relate to the {b} when the {c} is near the {d}?",
        f"Explain why a {a} needs a {b} and what the {c} does for the {d}.",
        f"Write two sentences about {a}, {b} and {c} for a {d} beginner.",
    )
    return rng.choice(forms) + f" Case {rng.randrange(10**6)}."


def labelled(rows: int, seed: int = 0, models: tuple[str, ...] = MODELS) -> tuple[Labels, list[str]]:
    """(labels, topic per row)."""
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    topics = [rng.choice(list(TOPICS)) for _ in range(rows)]
    prompts = tuple(prompt(t, rng) for t in topics)
    chance = np.array([[SKILL[m][list(TOPICS).index(t)] for m in models] for t in topics])
    scores = (draw.random(chance.shape) < chance).astype(float)
    costs = np.tile([COST[m] for m in models], (rows, 1)) * (1 + np.array([[len(p) / 1000] for p in prompts]))
    return Labels(prompts, models, scores, costs), topics
