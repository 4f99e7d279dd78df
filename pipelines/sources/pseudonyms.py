"""Pseudonyms: identifiers of patients, studies and series become codes before anything keeps them."""

import dataclasses
import functools
import hashlib
import hmac
import secrets

from medkeras.errors import InputError

MIN_SALT = 16
DIGITS = 16


@dataclasses.dataclass(frozen=True)
class Pseudonyms:
    """Replaces identifiers by codes: equal for equal identifiers, and not to be turned back without the salt.

    A code is the HMAC-SHA256 of the identifier, keyed with the salt and shortened to 16 hexadecimal digits.
    Patient numbers are few enough to try them all, so whoever has the salt can find a patient's number again:
    keep the salt where the images may be kept, and publish codes without it.

    Args:
        salt: At least 16 characters; by default one that is drawn at random, once for this process.

    Raises:
        ValueError: If the salt is too short.

    Reference:
        Krawczyk et al., HMAC: Keyed-Hashing for Message Authentication, RFC 2104.

    Example:
        >>> codes = Pseudonyms("of this one example")
        >>> codes("patient 17"), codes("patient 17") == codes("patient 18")
        ('6da7683ab8d0814d', False)
    """

    salt: str | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.salt is None:
            object.__setattr__(self, "salt", _process_salt())
        if not isinstance(self.salt, str) or len(self.salt) < MIN_SALT:
            # The salt itself is a secret, so only its length is shown.
            received = f"{len(self.salt)} characters" if isinstance(self.salt, str) else type(self.salt).__name__
            raise InputError(f"`salt` must be a text of at least {MIN_SALT} characters. Received: {received}")

    def __call__(self, identifier: str) -> str:
        """Returns the code of an identifier; spaces around it do not count."""
        code = hmac.new(self.salt.encode(), identifier.strip().encode(), hashlib.sha256)
        return code.hexdigest()[:DIGITS]


@functools.cache
def _process_salt() -> str:
    return secrets.token_hex(16)
