"""New identities from a secret key: the same key gives the same ones in every run.

Each is the HMAC-SHA256 (RFC 2104) of the original under the key, with its kind mixed in.
Without the key an original cannot be confirmed by trying, which a plain hash would allow
(PS3.15 section E.1.1, note 3 on unencrypted hashes).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

from mammoscope.errors import ConfigError, OutputError

__all__ = ["PseudonymKey"]

_KEY_BYTES = 32
# Days that a patient's dates move into the past: at least a month, at most ten years.
_LEAST_SHIFT, _SHIFTS = 31, 3652 - 31


class PseudonymKey:
    """A secret from which new identities follow.

    Args:
        secret: At least 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _KEY_BYTES:
            raise ConfigError(f"the key has {len(secret)} bytes; at least {_KEY_BYTES} are needed")
        self._secret = secret

    def __repr__(self) -> str:
        return f"PseudonymKey({self.fingerprint})"

    @classmethod
    def read(cls, path: Path) -> PseudonymKey:
        """Read a key file: hexadecimal digits, as :meth:`create` writes.

        Raises:
            ConfigError: If there is none, or it is not of that form.
        """
        try:
            text = Path(path).read_text(encoding="ascii")
            return cls(bytes.fromhex(text))
        except FileNotFoundError as error:
            raise ConfigError(
                f"key file {path} does not exist; pass --new-key to create it"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"key file {path} cannot be read: {error.strerror or error}"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"key file {path} does not hold hexadecimal digits; --new-key writes one that does"
            ) from error

    @classmethod
    def create(cls, path: Path) -> PseudonymKey:
        """Draw a key and write it to a new file that only its owner may read (mode 0600).

        Raises:
            OutputError: If the file exists, or cannot be written.
        """
        secret = secrets.token_bytes(_KEY_BYTES)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secret.hex() + "\n")
        except FileExistsError as error:
            raise OutputError(f"key file {path} exists; --new-key never replaces one") from error
        except OSError as error:
            raise OutputError(f"cannot write key file {path}: {error.strerror or error}") from error
        return cls(secret)

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that tell keys apart and say nothing about the key."""
        return self._digest("fingerprint", "").hex()[:8]

    def patient_id(self, original: str) -> str:
        """Return the new Patient ID: ``P`` and 16 letters or digits (80 bits)."""
        return "P" + base64.b32encode(self._digest("patient", original)[:10]).decode()

    def uid(self, original: str) -> str:
        """Return the new UID: ``2.25.`` and a UUID as one number (PS3.5 section B.2)."""
        # Version 8 of RFC 9562 is for values made by a rule of one's own.
        number = int.from_bytes(self._digest("uid", original)[:16])
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(0x3 << 62) | 2 << 62
        return f"2.25.{uuid.UUID(int=number).int}"

    def day_shift(self, original_patient_id: str) -> int:
        """Return by how many days a patient's dates move: -3651 to -31."""
        draw = int.from_bytes(self._digest("days", original_patient_id)[:8])
        return -(_LEAST_SHIFT + draw % _SHIFTS)

    def _digest(self, kind: str, original: str) -> bytes:
        message = f"mammoscope {kind}\0{original}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).digest()
