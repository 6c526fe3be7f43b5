"""What people say around a statement: ways into it ("By the way, ...") and out of it, which tell nothing.

A small model that is handed a note with them takes them for what matters. Rules only; called where a told sentence is
written into a prompt (`notes`) and where it is studied by night.
"""

from __future__ import annotations

import re

_LEAD_IN = re.compile(
    r"^(?:(?:by the way|just so (?:you|that you) know|so you know|just a note|for your information|fyi|for the record|"
    r"please (?:note|remember|be aware|keep in mind|bear in mind|know)|note|remember|keep in mind|bear in mind|"
    r"be aware|you should know|i should (?:mention|add)|i (?:wanted|want) (?:to tell you|you to know)|"
    r"let me (?:tell you|add)|one more thing|heads[ -]up|actually|correction|correct is|correct would be|right is|"
    r"update|news|as it happens|in fact|"
    r"it turns out|it seems|also|and|but|oh|well|so|hi|hello|hey|ok|okay|sorry|my mistake|my bad|"
    r"scratch that|i was wrong|i misspoke|no|yes|"
    r"good to know|to be clear|in case you (?:wonder|need it|didn't know)|i (?:just )?(?:heard|learned|learnt) )"
    r"(?:\s+that\b)?\s*[,:;!.–—-]*\s+)+",
    re.IGNORECASE,
)
_TRAILER = re.compile(
    r",? (?:now|these days|nowadays|currently|at the moment|by the way|last week|last month|yesterday|today|"
    r"from now on|as of (?:now|today)|nothing else|just so you know|fyi|you know)$",
    re.IGNORECASE,
)


def without_lead_in(text: str) -> str:
    """The text without what leads into it, first letter raised; unchanged where less than three words would be left."""
    text = text.strip()
    bare = _LEAD_IN.sub("", text).strip()
    if len(bare.split()) < 3:
        bare = text
    return bare[:1].upper() + bare[1:]


def statement_of(text: str) -> str:
    """A told sentence without lead-ins, trailers and its full stop, first letter raised."""
    return _TRAILER.sub("", without_lead_in(text).rstrip(".! "))
