"""Small facts, questions with answers, descriptions and comparisons."""

import random

from workbench.training.grammar import words
from workbench.training.grammar.expand import capital, expand, one, pair
from workbench.training.grammar.giving import people

ASKED = (
    "(The capital of {land} is {city}.|{city} is the capital of {land}.|{city} is a city in "
    "{land}.)",
    "What is the capital of {land}? (|It is |The capital of {land} is ){city}.",
    "The opposite of {hot} is {cold}. (|The opposite of {cold} is {hot}.)",
    "What is the opposite of {hot}? (|It is ){cold}.",
    "{A} has (a|one) {thing}. {B} has (two|three|many) {things}. Who has more {things}? {B}.",
    "The {thing} is {c1} and the {other} is {c2}. What colour is the {thing}? It is {c1}.",
    "The {thing} is {c1} and the {other} is {c2}. What colour is the {other}? It is {c2}.",
    "{A} is at the {p1} and {B} is at the {p2}. Where is {A}? (At|{A} is at) the {p1}.",
    "{A} is at the {p1} and {B} is at the {p2}. Where is {B}? (At|{B} is at) the {p2}.",
    "{A} is older than {B}. {B} is younger than {A}.",
    "{A} is taller than {B}, and {B} is taller than {C}. So {A} is taller than {C}.",
    "{A} likes {c1}, but {B} likes {c2}. {A} has a {c1} {thing}, and {B} has a {c2} {other}.",
    "{A} lives in {city}. {city} is in {land}. So {A} lives in {land}.",
    "The day after {day} is {next}. The day before {next} is {day}.",
    "{one} and one (is|makes) {two}. (|After {one} comes {two}.)",
    "Question: What does {A} have? Answer: {A} has a {thing}.",
    "At the {p1} there is a {thing}. On the {thing} there is a {other}. The {other} is {c1}.",
    "My name is {A}. I live in {city}. I have a {c1} {thing}.",
    '"Where are you going?" asked {A}. "To the {p1}," said {B}.',
    '"What is your name?" asked {A}. "My name is {B}," (he|she|the other) said. "Good morning, '
    '{B}."',
    "If it rains, {A} stays (at the {p1}|at home). It (rains|does not rain) today.",
    "These {things} are {c1}. This {other} is {c2}. That {thing} is {c1} too.",
    "{A} bought a {thing}, two {others} and a {gift}. The {gift} was (cheap|dear|a present for "
    "{B}).",
    "(A|The) {beast} is an animal. (A|The) {beast} can (run|eat|sleep|hear|move). It is not a "
    "{thing}.",
)


def facts(draw: random.Random) -> str:
    """A paragraph of three to eight small facts, or questions with their answers."""
    joint = draw.choice((" ", " ", "\n"))
    return joint.join(_fact(draw) for _ in range(draw.randint(3, 8))) + "\n"


def _fact(draw: random.Random) -> str:
    a, b, c = people(draw, 3)
    land, city = pair(words.CAPITALS, draw)
    hot, cold = pair(words.OPPOSITES, draw)
    turned = draw.random() < 0.5
    first, second = draw.sample(words.HANDY, 2)
    thing, things = first.split("/")
    other, others = second.split("/")
    day = draw.randrange(7)
    number = draw.randrange(len(words.NUMBERS) - 1)
    c1, c2 = draw.sample(words.COLOURS, 2)
    p1, p2 = draw.sample(words.PLACES, 2)
    slots = {
        **{"A": a, "B": b, "C": c, "land": land, "city": city},
        **{"hot": cold if turned else hot, "cold": hot if turned else cold},
        **{"thing": thing, "things": things, "other": other, "others": others},
        **{"c1": c1, "c2": c2, "p1": p1, "p2": p2, "gift": one(words.GIFTS, draw)},
        **{"day": words.DAYS[day], "next": words.DAYS[(day + 1) % 7]},
        **{"one": words.NUMBERS[number], "two": words.NUMBERS[number + 1]},
        **{"beast": pair(words.ANIMALS, draw)[0]},
    }
    return capital(expand(draw.choice(ASKED), draw, slots))
