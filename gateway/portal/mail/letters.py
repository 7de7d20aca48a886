"""What mails say. Links begin with the configured public address, never with anything of a request (CVE-2025-64101)."""

from policies.people import EMAIL_CHANGE_S, INVITATION_S, RESET_S

_FOOT = "\n\nThis message was sent by the Tahoe gateway. Nobody reads answers to it.\n"


def reset(link: str) -> tuple[str, str]:
    """A link for a new password."""
    return (
        "Choose a new password",
        f"Somebody, most likely you, asked for a new password for your account.\n\n"
        f"Choose it here within {RESET_S // 60} minutes; the link works once:\n\n{link}\n\n"
        "If it was not you, do nothing: your password stays as it is." + _FOOT,
    )


def welcome(link: str) -> tuple[str, str]:
    """A link for the first password, to whoever was given an account."""
    return (
        "You have an account",
        f"An account was made for this address.\n\n"
        f"Choose its password here within {INVITATION_S // 86_400} days; the link works once:\n\n{link}\n\n"
        "If you do not know what this is about, do nothing." + _FOOT,
    )


def password_changed(public_url: str) -> tuple[str, str]:
    """Told after every change, because somebody else may have made it."""
    return (
        "Your password was changed",
        "The password of your account was changed just now, and every browser was signed out.\n\n"
        f"If it was not you, ask for a new password at once: {public_url}/auth/forgot" + _FOOT,
    )


def way_added(public_url: str, what: str) -> tuple[str, str]:
    """Told when one more way to sign in was made, for the same reason."""
    return (
        "There is a new way to sign in to your account",
        f"{what} was added to your account just now, and signs in to it from now on.\n\n"
        f"If it was not you, remove it and change your password: {public_url}/account/security" + _FOOT,
    )


def recovery_code_used(public_url: str, left: int) -> tuple[str, str]:
    """Told whenever one was good, for the same reason."""
    return (
        "A recovery code of your account was used",
        f"It stood in for your second factor just now; {left or 'none'} {'is' if left == 1 else 'are'} left.\n\n"
        f"If it was not you, change your password and make new codes: {public_url}/account/security" + _FOOT,
    )


def second_factor_removed(public_url: str) -> tuple[str, str]:
    """Told when the password is enough again, for the same reason."""
    return (
        "The second factor of your account was removed",
        "No code of an authenticator app is asked for any more when you sign in to your account.\n\n"
        f"If it was not you, change your password and set it up again: {public_url}/account/security" + _FOOT,
    )


def invitation(link: str, tenant: str, role: str) -> tuple[str, str]:
    """To join a tenant."""
    return (
        f"You are invited to {tenant}",
        f"You are invited to join {tenant} as {role}.\n\n"
        f"Accept here within {INVITATION_S // 86_400} days; the link works once:\n\n{link}\n\n"
        "If you do not know what this is about, do nothing." + _FOOT,
    )


def invitation_declined(email: str, tenant: str) -> tuple[str, str]:
    """To whoever has invited."""
    return (
        f"{email} does not join {tenant}",
        f"{email} has declined your invitation to {tenant}. Its link works no more; you may invite again." + _FOOT,
    )


def email_old(link: str, new: str) -> tuple[str, str]:
    """To the address that an account has."""
    return (
        "Confirm your new e-mail address",
        f"Your account is to get the address {new} in place of this one.\n\n"
        f"If you want that, confirm it here within {EMAIL_CHANGE_S // 3_600} hours, and in the message to the new "
        f"address as well:\n\n{link}\n\n"
        "If it was not you who asked, do nothing but change your password: somebody knows it." + _FOOT,
    )


def email_new(link: str) -> tuple[str, str]:
    """To the address that an account is to get."""
    return (
        "Confirm your e-mail address",
        f"This address is to become the one of an account.\n\n"
        f"If it is yours and you want that, confirm it here within {EMAIL_CHANGE_S // 3_600} hours:\n\n{link}\n\n"
        "If you do not know what this is about, do nothing." + _FOOT,
    )


def email_changed(new: str) -> tuple[str, str]:
    """To the address that an account had."""
    return (
        "Your e-mail address was changed",
        f"The address of your account is now {new}. Messages will go there from now on." + _FOOT,
    )
