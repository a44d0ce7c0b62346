"""A person's token is remembered as long as the file of tokens stays as it was, and no longer."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consortium.access import AccessTokens, Role
from consortium.errors import TokenInvalid
from consortium.network import network_file


def rest(home: Path) -> None:
    """As if the file had been left alone for a while."""
    before = time.time() - 60
    os.utime(network_file(home), (before, before))


def another_is_issued(tokens: AccessTokens, id: str) -> None:
    tokens.issue("Grace", Role.AUDITOR)


def it_is_revoked(tokens: AccessTokens, id: str) -> None:
    tokens.revoke(id)


@pytest.mark.parametrize("change", [another_is_issued, it_is_revoked])
def test_after_any_change_the_file_is_read_again(
    tmp_path: Path, change: Callable[[AccessTokens, str], None]
) -> None:
    tokens = AccessTokens(tmp_path)
    token, text = tokens.issue("Ada", Role.ADMIN)
    rest(tmp_path)
    assert tokens.remembered(text) is None  # nobody has shown it yet
    caller = tokens.open(text)
    assert tokens.remembered(text) == caller
    change(AccessTokens(tmp_path), token.id)  # by another process, as commands are
    assert tokens.remembered(text) is None
    if change is it_is_revoked:
        with pytest.raises(TokenInvalid):
            tokens.open(text)


def test_what_was_read_while_the_file_was_new_is_not_remembered(tmp_path: Path) -> None:
    """A second change within one tick of the file's clock would not show."""
    tokens = AccessTokens(tmp_path)
    _, text = tokens.issue("Ada", Role.ADMIN)
    tokens.open(text)
    assert tokens.remembered(text) is None
    rest(tmp_path)
    assert tokens.remembered(text) is None


def test_it_ends_when_the_token_does(tmp_path: Path) -> None:
    now = [1000.0]
    tokens = AccessTokens(tmp_path, lambda: now[0])
    _, text = tokens.issue("Ada", Role.ADMIN, lifetime_s=10)
    rest(tmp_path)
    tokens.open(text)
    assert tokens.remembered(text) is not None
    now[0] += 10
    assert tokens.remembered(text) is None
    assert tokens.remembered("mpa_0_made-up") is None
