"""Joining a consortium: keys made on site, a proof that each is held, the genesis signed.

A genesis may continue a ledger whose quorum is gone for good. Then a founder that was a member
there compares it with its own copy, and takes its patients and what they have spent along.

An institution's public form is made once, with the person whose approval key it names, and kept in
the folder; rotating keys makes the next one beside it, until the ledger says that it is in force.
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from consortium.enrolment import check_member
from consortium.errors import OptionInvalid
from consortium.invitations import draft_fingerprint
from hospital_agent.approver import make_approver, open_approver
from hospital_agent.errors import FolderInvalid, GenesisRefused
from hospital_agent.folder import HospitalFolder, read_json, write_json
from ledger.chain import ledger_id
from ledger.entry import Entry, record_signature, sign_record
from ledger.keys import AGENT_ROLES, KeyRing, Role, SecretKey
from ledger.membership import Membership
from ledger.records import (
    COORDINATOR,
    Change,
    Enrol,
    Genesis,
    KeyForm,
    MemberForm,
    Name,
    Rotate,
    Title,
    consent_message,
    possession_message,
)
from privacy.budget import Budget
from sml.vrf import prove

APPROVER = "approver.pem"


def check_names(institution: str, title: str) -> None:
    """Checks an id and a title before anything is made with them.

    Raises:
        OptionInvalid: if they cannot stand on a ledger.
    """
    try:
        TypeAdapter(Name).validate_python(institution)
        TypeAdapter(Title).validate_python(title)
    except ValidationError:
        institution_fits = False
    else:
        institution_fits = institution != COORDINATOR
    if not institution_fits:
        raise OptionInvalid(
            f"--id {institution[:50]!r} or --title {title[:90]!r} cannot stand on a ledger",
            "an id has up to 40 of a-z, 0-9 and -, and is not `coordinator`; a title up to 80 "
            "letters, digits, spaces and . , ' & ( ) / -; both begin with a letter or digit",
        )


def enrol(
    folder: HospitalFolder, approver: Path | None = None, passphrase: str | None = None
) -> MemberForm:
    """The institution's public form: its keys, and proof that it holds each of them.

    ``approver`` is the file of the person's approval key; without it one is made in the folder.

    Raises:
        ApproverInvalid: if the key does not open.
    """
    path = folder.path / "member.json"
    if path.exists():
        return read_member(path)
    key_file = approver or folder.path / APPROVER
    if key_file.exists():
        key = open_approver(key_file, passphrase)
    else:
        key = make_approver(key_file, passphrase)
    form = _member_form(folder, folder.keys, key)
    write_json(path, form.model_dump(mode="json"))
    return form


def read_member(path: Path) -> MemberForm:
    """A public form that was kept.

    Raises:
        FolderInvalid: if it is missing or damaged.
    """
    try:
        return MemberForm.model_validate(read_json(path))
    except ValueError:
        raise FolderInvalid(
            f"{path.name} is missing or damaged", f"restore {path} from your backup"
        ) from None


def _member_form(folder: HospitalFolder, ring: KeyRing, approver: SecretKey) -> MemberForm:
    secrets = {role: ring[role] for role in AGENT_ROLES} | {Role.APPROVAL: approver}
    keys = {role: KeyForm.of(key.public) for role, key in secrets.items()}
    possession = {
        role: _possession(role, key, possession_message(folder.institution, role, keys))
        for role, key in secrets.items()
    }
    return MemberForm(id=folder.institution, title=folder.title, keys=keys, possession=possession)


def _possession(role: Role, key: SecretKey, message: bytes) -> str:
    # The VRF key never makes a plain signature: it shows itself by a proof.
    return (prove(key.seed, message) if role is Role.VRF else key.sign(message)).hex()


def sign_genesis(folder: HospitalFolder, genesis: Genesis) -> dict[str, str]:
    """Signs the genesis and binds this hospital's folder to that ledger.

    Raises:
        GenesisRefused: if the genesis does not hold this hospital as it enrolled.
        EnrolmentInvalid: if another founder does not show that it holds its keys.
        FolderInvalid: if the hospital belongs to another ledger.
    """
    if enrol(folder) not in genesis.founders:
        raise GenesisRefused(
            "the genesis does not hold this hospital as it enrolled",
            "compare the fingerprints with the coordinator; do not join this ledger",
        )
    for member in genesis.founders:
        check_member(member)
    folder.pin_ledger(ledger_id(genesis))
    return record_signature(genesis, folder.keys[Role.RECORD])


def check_genesis(folder: HospitalFolder, genesis: Genesis) -> None:
    """Checks what `sign_genesis` does, before a person is asked; nothing is made or bound.

    Raises:
        GenesisRefused, EnrolmentInvalid, FolderInvalid: as `sign_genesis`.
        MembershipInvalid: if an id or a key stands in it twice: no ledger could begin with it.
    """
    _check_draft(folder, genesis)
    own = read_member(folder.path / "member.json")  # made with its person, never here
    if own not in genesis.founders:
        raise GenesisRefused(
            "the genesis does not hold this hospital as it enrolled",
            "compare the fingerprints with the coordinator; do not join this ledger",
        )
    for member in genesis.founders:
        check_member(member)
    ledger = ledger_id(genesis)
    Membership.of_genesis(genesis, ledger)
    if folder.ledger not in (None, ledger):
        raise FolderInvalid(
            "this hospital's folder belongs to another ledger", "enrol in a new folder"
        )


def _check_draft(folder: HospitalFolder, genesis: Genesis) -> None:
    """The coordinator is the one that the invitation named, where there was one."""
    path = folder.path / "connection.json"
    draft = read_json(path).get("draft") if path.exists() else None
    public = bytes.fromhex(genesis.coordinator[Role.RECORD].public)
    if draft is not None and draft != draft_fingerprint(public):
        raise GenesisRefused(
            "the genesis names another coordinator than the one that invited this hospital",
            "do not sign; ask the coordinator and another founder",
        )


def check_continues(genesis: Genesis, old: HospitalFolder) -> int:
    """Checks what the genesis continues against a copy of that ledger; returns its height.

    Raises:
        GenesisRefused: if it continues nothing, another ledger, another block, or an earlier block
            than the newest that is final in the copy; or if the copy does not reach it.
        FolderInvalid: if the folder holds no copy.
    """
    from hospital_agent.replica import Replica
    from ledger.copies import final_height

    continues = genesis.continues
    if continues is None or continues.ledger != old.ledger:
        raise GenesisRefused(
            f"the genesis continues {'no' if continues is None else 'another'} ledger than the one "
            f"in {old.path}",
            "do not sign; ask the coordinator which export it was made with",
        )
    path = old.path / "replica.sqlite"
    if not path.exists():
        raise FolderInvalid(f"{old.path} holds no copy of its ledger", "name the folder that does")
    replica = Replica(path)
    if replica.height() < continues.height:
        raise GenesisRefused(
            f"the genesis continues from block {continues.height}, the copy in {old.path} ends at "
            f"{replica.height()}: they cannot be compared",
            "verify the export instead: `consortium ledger verify EXPORT --genesis FINGERPRINT "
            "--head HEAD`, with `hospital-agent ledger head` of that copy; then leave --old out",
        )
    if replica.block(continues.height).header.hash != continues.block:
        raise GenesisRefused(
            f"the genesis continues another block {continues.height} than the copy in {old.path}",
            "do not sign; keep the genesis and the copy, and tell the other institutions",
        )
    with replica.copy() as copy:
        final = final_height(copy)
    if final > continues.height:
        raise GenesisRefused(
            f"the genesis continues from block {continues.height}, the copy in {old.path} is final "
            f"to block {final}: those between would be lost",
            "have it made anew with `hospital-agent ledger export` of that copy",
        )
    return continues.height


def carry_over(old: HospitalFolder, folder: HospitalFolder) -> None:
    """Takes policy, patients and the privacy budget along from a folder that is given up.

    What its jobs had reserved and not spent is given back first, in the old folder: an agent that
    still ran there could spend nothing more, and a job of the same name spends nothing twice, as it
    is refused. What is in the new folder already stays.

    Raises:
        PrivacyError: if the budget does not hold.
    """
    if old.path.resolve() == folder.path.resolve():
        raise FolderInvalid("--old is the new folder itself", "name the folder of the old ledger")
    target = folder.path / "budget.sqlite"
    # The budget goes first: patients without it would begin at zero.
    if (old.path / "budget.sqlite").exists() and not target.exists():
        for cohort in old.budget.cohorts():
            for job in old.budget.status(cohort).jobs:
                old.budget.release(cohort, job.job)
        partial = folder.path / ".budget.sqlite.new"
        partial.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(old.path / "budget.sqlite")) as source,
            contextlib.closing(sqlite3.connect(partial)) as copy,
        ):
            copy.execute("PRAGMA synchronous = EXTRA")
            source.backup(copy)
        Budget(partial).cohorts()  # its chain of events is checked
        partial.replace(target)
    for name in ("policy.json", "cohorts"):
        source_path, partial = old.path / name, folder.path / f".{name}.new"
        if not source_path.exists() or (folder.path / name).exists():
            continue
        if source_path.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source_path, partial)
        else:
            shutil.copy2(source_path, partial)
        partial.rename(folder.path / name)


def enrolment_action(folder: HospitalFolder, ledger: str) -> Enrol:
    """What this hospital asks the members of a ledger to approve; binds the folder to it.

    Raises:
        FolderInvalid: if the hospital belongs to another ledger.
    """
    form = enrol(folder)
    folder.pin_ledger(ledger)
    consent = folder.keys[Role.RECORD].sign(consent_message(ledger, form))
    return Enrol(kind="enrol", member=form, consent=consent.hex())


def rotation(folder: HospitalFolder, base: str, approver: Path, passphrase: str | None) -> Entry:
    """A change that gives this hospital new keys, signed by its old and its new record key.

    The new keys wait beside the old ones until the ledger says that they are in force; repeated, it
    proposes the same keys. ``base`` is the digest of the membership in force.

    Raises:
        ApproverInvalid: if the person's key does not open.
        FolderInvalid: if the hospital belongs to no ledger.
    """
    if folder.ledger is None:
        raise FolderInvalid("this hospital is on no ledger yet", "enrol it first")
    path = folder.path / "member.next.json"
    ring = folder.next_keys(make=True)
    assert ring is not None
    if not path.exists():
        form = _member_form(folder, ring, open_approver(approver, passphrase))
        write_json(path, form.model_dump(mode="json"))
    form = read_member(path)
    message = consent_message(folder.ledger, form)
    old = folder.keys[Role.RECORD]
    action = Rotate(
        kind="rotate", member=form, consent=ring[Role.RECORD].sign(message).hex(),
        consent_of_old=old.sign(message).hex(),
    )  # fmt: skip
    change = Change(
        v=1, type="change", ledger=folder.ledger, author=folder.institution, base=base,
        actions=(action,),
    )  # fmt: skip
    return sign_record(change, [old])
