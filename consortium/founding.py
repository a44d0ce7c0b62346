"""Founding a consortium: a draft, the founders' forms, one genesis, everybody's signature.

Files are carried by people, or come in over the API of `consortium serve`, which keeps the same
files; nothing here needs a network. Rules that hold:

- A form stands in the genesis only if its institution shows that it holds every key.
- The genesis follows from the draft and the forms alone: the same forms, the same fingerprint. It
  is replaced by another only as long as no founder's signature on it has come in.
- It is stored as block 0 once ALL founders have signed, and not before. One founder is permitted.
- A genesis may continue a ledger whose quorum is gone for good: it names that ledger's last final
  block, of an export that was verified against that ledger's own pinned genesis.

Every step can be repeated, after a crash too: files are whole or absent, and the database is
written last, where the same genesis gives the same block.

| in the home | holds |
|---|---|
| ``home.json`` | the draft: title, credits, when it was made; the ledger, once it is founded |
| ``forms/ID.json`` | a founder's form, once `consortium institution approve` compared it |
| ``genesis.json`` | what the founders sign |
| ``signatures/ID.json`` | a founder's signature that came in |
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from consortium.enrolment import check_member
from consortium.errors import (
    EnrolmentInvalid,
    GenesisInvalid,
    HomeMismatch,
    OptionInvalid,
)
from consortium.home import Home, open_home, write_json
from ledger.chain import ledger_id
from ledger.entry import Entry, assemble, record_signature
from ledger.errors import HomeInUse, HomeInvalid, LedgerError, LedgerMissing
from ledger.keys import KeyRing, Role
from ledger.membership import COORDINATOR_ROLES, Membership
from ledger.reading import read_blocks
from ledger.records import (
    Continued,
    CreditPolicy,
    Genesis,
    KeyForm,
    MemberForm,
    Policy,
    Title,
    parse_record,
)
from ledger.verify import verify_export

_PATIENCE_S, _AGAIN_S = 20.0, 0.05
DEFAULT_CREDITS = {"pool": 1000, "verdicts": 200, "learner_bonus": 100, "window": 5}


@dataclass(frozen=True)
class Founding:
    """How far a founding has come. ``ledger`` is the fingerprint that founders compare."""

    genesis: Genesis
    ledger: str
    path: Path
    signed: tuple[str, ...]
    final: bool

    @property
    def founders(self) -> tuple[str, ...]:
        """All founders' ids, sorted."""
        return tuple(member.id for member in self.genesis.founders)

    @property
    def missing(self) -> tuple[str, ...]:
        """Who has yet to sign."""
        return tuple(name for name in self.founders if name not in self.signed)


# the draft


def make_draft(path: Path, title: str, asked: Mapping[str, int | None]) -> tuple[Policy, KeyRing]:
    """Makes the coordinator's keys and notes what the founders are asked to agree on.

    ``asked`` are credits by name (`CreditPolicy`); None stands for the usual. Repeated, it gives
    the same.

    Raises:
        OptionInvalid: if the title or the credits cannot stand on a ledger.
        HomeMismatch: if this home holds another consortium, or another draft.
    """
    try:
        TypeAdapter(Title).validate_python(title)
    except ValidationError:
        raise OptionInvalid(
            f"--title is {title[:90]!r}",
            "take 1 to 80 letters, digits, spaces and . , ' & ( ) / -, beginning with a letter",
        ) from None
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        credits = CreditPolicy.model_validate(DEFAULT_CREDITS | given)
    except ValidationError:
        raise OptionInvalid(
            "the parts are more than the pool", "give a pool of at least verdicts and bonus"
        ) from None
    wanted: dict[str, object] = {"consortium": title, "credits": credits.model_dump()}
    with open_home(path) as home:
        noted = home.founded()
        if noted is None:
            if os.path.lexists(path / "postgres"):
                raise HomeMismatch(f"{path} holds a database already", "use a new --home")
            keys = home.make_keys()
            home.note(wanted | {"created": int(time.time())})
        elif {name: noted.get(name) for name in wanted} != wanted:
            raise HomeMismatch(f"{path} holds another consortium, or draft", "use a new --home")
        else:
            keys = home.keys
    return _policy(credits), keys


def _policy(credits: CreditPolicy) -> Policy:
    return Policy(quorum="floor((n+f)/2)+1", credits=credits)


def is_draft(path: Path) -> bool:
    """Whether a home holds a consortium of `consortium init` whose ledger has not begun."""
    noted = Home(path).founded()
    return noted is not None and "consortium" in noted and "ledger" not in noted


def draft_title(path: Path) -> str:
    """The name of the consortium that is being founded.

    Raises:
        LedgerMissing, HomeMismatch: if the home holds no draft.
    """
    return str(_draft(Home(path))["consortium"])


def draft_keys(path: Path) -> KeyRing:
    """The coordinator's keys in a home that holds a draft.

    Raises:
        LedgerMissing, HomeMismatch: if it holds none.
    """
    home = Home(path)
    _draft(home)
    return home.keys


@contextmanager
def _alone(path: Path) -> Iterator[Home]:
    """The home for this process alone; `consortium serve` and people's commands take turns."""
    deadline = time.monotonic() + _PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                home = stack.enter_context(open_home(path))
                break
            except HomeInUse:
                # Whoever has a ledger open keeps its home for long.
                if time.monotonic() > deadline or not is_draft(path):
                    raise
                time.sleep(_AGAIN_S)
        yield home


def _draft(home: Home) -> dict[str, Any]:
    noted = home.founded()
    if noted is None:
        raise LedgerMissing(f"there is no draft in {home.path}", "make one: `consortium init`")
    if "consortium" not in noted:
        raise HomeMismatch(
            f"{home.path} holds a consortium that was not begun by `consortium init`",
            "use a new --home",
        )
    return noted


# the genesis


def keep_form(path: Path, member: MemberForm) -> Path:
    """Keeps an approved founder's form, in place of an earlier one of the same institution.

    Raises:
        LedgerMissing, HomeMismatch: if the home holds no draft.
    """
    _draft(Home(path))
    (path / "forms").mkdir(exist_ok=True, mode=0o700)
    target = path / "forms" / f"{member.id}.json"
    write_json(target, member.model_dump(mode="json"))
    return target


def drop_form(path: Path, institution: str) -> None:
    """Forgets an approved founder's form; a genesis that holds it already stays as it is."""
    (path / "forms" / f"{institution}.json").unlink(missing_ok=True)


def approved_forms(path: Path) -> list[Path]:
    """The forms of all founders that were approved.

    Raises:
        LedgerMissing: if there is none.
    """
    found = sorted((path / "forms").glob("*.json"))
    if not found:
        raise LedgerMissing(
            f"no founder is approved in {path}",
            "invite them: `consortium institution invite`, then `consortium institution approve`",
        )
    return found


def write_genesis(
    path: Path, forms: Sequence[Path], continues: Continued | None = None
) -> Founding:
    """Writes ``genesis.json`` over the founders' forms.

    Raises:
        EnrolmentInvalid: if a form cannot be read, or does not show that its keys are held.
        MembershipInvalid: if an id or a key stands there twice.
        GenesisInvalid: if founders have signed another genesis already.
    """
    members = sorted((read_form(form) for form in forms), key=lambda member: member.id)
    with _alone(path) as home:
        draft = _draft(home)
        try:
            genesis = Genesis(
                v=1,
                type="genesis",
                author="coordinator",
                consortium=draft["consortium"],
                coordinator=_coordinator(home.keys),
                founders=tuple(members),
                policy=_policy(CreditPolicy.model_validate(draft["credits"])),
                created=draft["created"],
                continues=continues,
            )
        except (KeyError, ValidationError):
            raise HomeInvalid(
                f"{path / 'home.json'} is damaged", "restore it, or use a new --home"
            ) from None
        check_genesis(genesis)
        target = home.path / "genesis.json"
        old = read_genesis(target) if target.exists() else genesis
        if old != genesis and ("ledger" in draft or _signature_files(home, old)):
            raise GenesisInvalid(
                f"founders have signed another genesis here already, {ledger_id(old)}",
                "go on with that one; or begin again in a new --home, and founders who have "
                "signed in new folders",
            )
        write_json(target, genesis.body())
        return _founding(home)


def _coordinator(keys: KeyRing) -> dict[Role, KeyForm]:
    return {role: KeyForm.of(keys[role].public) for role in COORDINATOR_ROLES}


def read_form(path: Path) -> MemberForm:
    """A founder's public form, from the file that its agent wrote.

    Raises:
        EnrolmentInvalid: if it is no such file, or a key is not shown to be held.
    """
    try:
        member = MemberForm.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        raise EnrolmentInvalid(
            f"{path} is no founder's form that can be read",
            "have `hospital-agent enrol --founder` write it anew",
        ) from None
    check_member(member)
    return member


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file. Only its form is checked.

    Raises:
        GenesisInvalid: if it is none that can be read.
    """
    try:
        record = parse_record(json.loads(path.read_bytes()))
    except (OSError, ValueError, LedgerError):
        record = None
    if not isinstance(record, Genesis):
        raise GenesisInvalid(
            f"{path} is no genesis that can be read",
            "ask the coordinator for genesis.json; `consortium genesis` writes it",
        )
    return record


def check_genesis(genesis: Genesis) -> None:
    """Checks that the genesis can begin a ledger, and that founders hold their keys.

    Raises:
        MembershipInvalid: if an id or a key stands there twice.
        EnrolmentInvalid: if a founder does not show that it holds its keys.
    """
    for member in genesis.founders:
        check_member(member)
    Membership.of_genesis(genesis, ledger_id(genesis))


def read_continued(export: Path, fingerprint: str) -> Continued:
    """The last final block of an old ledger's export, verified against that ledger's genesis.

    Raises:
        LedgerError: if the export does not verify.
    """
    verified = verify_export(export, fingerprint)
    header = None
    for block, _ in read_blocks(export):
        header = block.header
    assert header is not None
    assert header.height == verified.height
    return Continued(ledger=verified.ledger, height=header.height, block=header.hash)


# the founders' signatures


def signature_file(genesis: Genesis, institution: str, signature: dict[str, str]) -> dict[str, Any]:
    """What a founder's agent writes for the coordinator."""
    return {"ledger": ledger_id(genesis), "institution": institution, "signature": signature}


def founding(path: Path) -> Founding:
    """How far the founding in a home has come; nothing is changed.

    Raises:
        LedgerMissing: if there is no genesis yet.
    """
    return _founding(Home(path))


def take_signatures(path: Path, files: Iterable[Path]) -> Founding:
    """Keeps the founders' signatures; the one that makes them complete founds the ledger.

    None is kept unless all of ``files`` hold.

    Raises:
        GenesisInvalid: if a file holds no founder's signature on this genesis.
        HomeMismatch: if the home's keys are not the genesis's.
        SequenceConflict: if the database holds another ledger.
        LedgerError: if there is no genesis yet, or the database cannot be opened.
    """
    with _alone(path) as home:
        genesis = _signable(home)
        return _keep(home, genesis, [_read_signature(genesis, file) for file in files])


def take_signature(path: Path, content: Any) -> Founding:
    """Keeps one founder's signature, as its agent sent it; as `take_signatures` otherwise."""
    with _alone(path) as home:
        genesis = _signable(home)
        return _keep(home, genesis, [check_signature(genesis, content)])


def _signable(home: Home) -> Genesis:
    genesis = _founding(home).genesis
    if _coordinator(home.keys) != genesis.coordinator:
        raise HomeMismatch(
            f"the coordinator's keys in {home.path} are not those of the genesis",
            "restore the keys from your backup, or begin again in a new --home",
        )
    return genesis


def _keep(home: Home, genesis: Genesis, taken: Iterable[tuple[str, dict[str, str]]]) -> Founding:
    (home.path / "signatures").mkdir(exist_ok=True, mode=0o700)
    for institution, signature in taken:
        content = signature_file(genesis, institution, signature)
        write_json(_signature_path(home, institution), content)
    state = _founding(home)
    if not state.missing and (not state.final or _database_missing(home)):
        _store(home, genesis)
    return _founding(home)


def _founding(home: Home) -> Founding:
    draft = _draft(home)
    target = home.path / "genesis.json"
    if not target.exists():
        raise LedgerMissing(
            f"there is no genesis in {home.path} yet",
            "gather the founders' forms, then: `consortium genesis FORM…`",
        )
    genesis = read_genesis(target)
    ledger = ledger_id(genesis)
    signed = tuple(path.stem for path in _signature_files(home, genesis))
    return Founding(genesis, ledger, target, signed, draft.get("ledger") == ledger)


def _signature_path(home: Home, institution: str) -> Path:
    return home.path / "signatures" / f"{institution}.json"


def _signature_files(home: Home, genesis: Genesis) -> list[Path]:
    paths = [_signature_path(home, member.id) for member in genesis.founders]
    return [path for path in paths if path.exists()]


def _read_signature(genesis: Genesis, path: Path) -> tuple[str, dict[str, str]]:
    """Who signed, and the signature, which holds."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        content = None
    return check_signature(genesis, content, str(path))


def check_signature(
    genesis: Genesis, content: Any, name: str = "what was sent"
) -> tuple[str, dict[str, str]]:
    """Who signed, and the signature, which holds. ``name`` says where it came from.

    Raises:
        GenesisInvalid: if it is no founder's signature on this genesis.
    """
    try:
        ledger, institution = content["ledger"], str(content["institution"])
        signature = {str(key): str(value) for key, value in content["signature"].items()}
    except (KeyError, TypeError, AttributeError):
        raise GenesisInvalid(
            f"{name} is no founder's signature that can be read",
            "have `hospital-agent sign-genesis` write it anew",
        ) from None
    if ledger != ledger_id(genesis):
        raise GenesisInvalid(
            f"{name} signs another genesis, {str(ledger)[:64]}",
            "send that founder the genesis.json of this home",
        )
    founders = {member.id: member for member in genesis.founders}
    if institution not in founders:
        raise GenesisInvalid(f"{name} is by no founder", "give the founders' files only")
    entry: Entry = assemble(genesis, [signature])
    try:
        entry.verify([founders[institution].key(Role.RECORD)])
    except LedgerError:
        raise GenesisInvalid(
            f"the signature in {name} is not by the record key of {institution}",
            "have `hospital-agent sign-genesis` write it anew",
        ) from None
    return institution, signature


def _store(home: Home, genesis: Genesis) -> None:
    """Puts the genesis into the database as block 0, and notes that it is there."""
    # Only here: an institution that signs has no database.
    from ledger.database import open_database
    from ledger.store import LedgerStore

    signatures = [record_signature(genesis, home.keys[Role.RECORD])]
    for member in genesis.founders:
        signatures.append(_read_signature(genesis, _signature_path(home, member.id))[1])
    with open_database(home.path) as engine:
        LedgerStore(engine).found(assemble(genesis, signatures), home.keys)
    home.note(_draft(home) | {"ledger": ledger_id(genesis)})


def _database_missing(home: Home) -> bool:
    return not os.environ.get("DATABASE_URL") and not os.path.lexists(home.path / "postgres")
