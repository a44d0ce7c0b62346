"""`consortium coordinator`, whose runs carry an app bundle with one byte changed."""

from consortium.cli.main import main
from consortium.flower import link
from consortium.flower.bundle import app_bundle, code_digest

digest = code_digest()
other = ("0" if digest[0] != "0" else "1") + digest[1:]
forged = app_bundle().replace(digest.encode(), other.encode())
assert forged != app_bundle()
link.app_bundle = lambda: forged  # type: ignore[attr-defined]
main()
