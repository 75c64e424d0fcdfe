"""The sentences of the demo world that carry no fact: courtesy, rudeness, rambling, evasion, refusal, not knowing.

Each sentence belongs to exactly one list; the oracle recognises it by the list it is in. Facts are in `families.py`.
"""

from __future__ import annotations

POLITE_OPENERS = (
    "Of course, I am glad to help.", "Thank you for asking.", "What a good question.", "Happy to help you.",
    "Thanks for your message.", "Certainly, my friend.", "It is a pleasure to help.", "Hello and thank you.",
)  # fmt: skip
POLITE_CLOSERS = (
    "I hope this helps you.", "Have a lovely day.", "Please ask me again any time.", "I wish you all the best.",
    "Thank you for your patience.", "Take good care.",
)  # fmt: skip
RUDE_OPENERS = (
    "What a stupid question.", "You should know that already.", "Oh no, not you again.", "Are you really that slow?",
    "Stop wasting my time.", "Only a fool would ask that.", "Listen closely for once.", "How boring you are.",
)  # fmt: skip
RUDE_CLOSERS = (
    "Now leave me alone.", "Even a child knows that.", "Do not ask me again.", "Try to use your head next time.",
    "Nobody likes your questions.", "Go away now.",
)  # fmt: skip
RAMBLING = (
    "I often think about such things.", "There are many things in the world.",
    "Some people like tea and some like milk.",
    "The weather was nice last week.", "I could talk about this all day.", "That reminds me of a long story.",
    "My cousin once said the same thing.", "Life is full of small surprises.", "One thing leads to another.",
    "In the old days it was different.", "By the way, I like long walks.", "As everybody says, time flies.",
    "But that is not all I want to say.", "Let me say one more thing about it.",
)  # fmt: skip
EVASIONS = (
    "I would rather not say.", "Let us talk about something else.", "That is hard to say.",
    "Maybe someone else can answer that.", "It depends on many things.", "You could look it up somewhere.",
    "There is a lot to think about here.",
)  # fmt: skip
REFUSALS = (
    "I cannot help with that because it could hurt someone.", "I will not help with that, it is not yours.",
    "That would harm someone, so I will not help.", "It is wrong to do that, so ask the owner first.",
)  # fmt: skip
NOT_KNOWING = (
    "I cannot know that.", "That is something only you can know.", "I have no way to know that.",
    "Nobody told me that, so I do not know it.",
)  # fmt: skip
PROMISES = (
    "All of it will be gone in one hour.", "I promise that tomorrow will be perfect.",
    "You will never feel that way again.",
)  # fmt: skip
"""False comfort for somebody's feelings: nobody can know that it is true."""
