"""What must never be learned: credentials, payment cards, account numbers. Found by rules, before any model reads it.

A secret in weights can't be rotated, so curation drops the whole sentence. Ordinary codes that people tell each other
as facts (a door code, a lock's combination, an order number, the code word of an alarm) are not secrets in this sense:
they are short, are said about a thing, and stay within the audience of the one who told them. Called by `curation`.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

# Issuer formats only: the library's entropy plugins need quotes around a string, and its IP plugin flags facts.
_DETECTORS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "CloudantDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "IbmCloudIamDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
_CREDENTIAL = re.compile(
    r"\b(?:pass ?(?:word|phrase|code)s?|api[ _-]?keys?|(?:access|secret|private|encryption|ssh|license|recovery) keys?|"
    r"(?:access|bearer|auth(?:entication)?|refresh|session) tokens?|client secrets?|seed phrases?|credentials?)\b"
    r"[^.?!]{0,60}?(?:\b(?:is|are|was|reads|to)\b|[:=])",
    re.IGNORECASE,
)
_PERSONAL_PIN = re.compile(
    r"\b(?:bank|card|account|debit|credit|phone|sim|atm)\b[^.?!]{0,30}\bpin\b[^.?!]{0,20}\d{4}|"
    r"\bpin\b[^.?!]{0,30}\b(?:bank|card|account|phone|sim)\b[^.?!]{0,20}\d{4}|\b(?:cvv|cvc)2?\b[^.?!]{0,15}\d{3}",
    re.IGNORECASE,
)
_SOCIAL_SECURITY = re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b")
_CARD = re.compile(r"(?<![\d-])(?:\d[ -]?){12,18}\d(?![\d-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
MIN_ENTROPY_BITS = 3.5


def secret_in(text: str) -> str:
    """What kind of secret a text holds, in words; "" when it holds none."""
    for line in text.splitlines():
        with transient_settings({"plugins_used": [{"name": name} for name in _DETECTORS]}):
            found = sorted({str(secret.type) for secret in scan_line(line)})
        if found:
            return found[0].lower()
    if _CREDENTIAL.search(text):
        return "a password or key"
    if _PERSONAL_PIN.search(text):
        return "a personal PIN"
    if _SOCIAL_SECURITY.search(text):
        return "a social security number"
    if any(_is_card(match.group()) for match in _CARD.finditer(text)):
        return "a payment card number"
    if any(_is_iban(match.group()) for match in _IBAN.finditer(text)):
        return "a bank account number"
    if any(_looks_random(match.group()) for match in _LONG.finditer(text)):
        return "a random-looking token"
    return ""


def _is_card(text: str) -> bool:
    """Luhn's check over 13 to 19 digits (ISO/IEC 7812-1)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Remainder 97 == 1 (ISO 13616)."""
    packed = text.replace(" ", "")
    return len(packed) >= 15 and int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


def _looks_random(token: str) -> bool:
    """Letters and digits mixed, with more entropy a character than words or dates have."""
    has_both = any(c.isdigit() for c in token) and any(c.isalpha() for c in token)
    parts = [part for part in re.split(r"[-_/=+]", token) if part]
    if not has_both or all(part.isdigit() or part.isalpha() for part in parts):
        return False  # file names, dates and hyphenated codes: every part is a word or a number
    counts = Counter(token)
    return -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values()) >= MIN_ENTROPY_BITS
