"""The table of commands."""

import click

from gateway import __version__
from gateway.cli.lazy import Entry, LazyGroup


class _Gateway(LazyGroup):
    entries = {  # noqa: RUF012  a table; nothing writes to it
        "demo": Entry(
            "gateway.cli.demo:demo",
            "Try it: PostgreSQL, Valkey, a transcriber, a tenant, a user and an API key, until Ctrl-C.",
        ),
        "serve": Entry("gateway.cli.serve:serve", "Serve until SIGTERM or Ctrl-C, then drain."),
        "healthcheck": Entry(
            "gateway.cli.healthcheck:healthcheck", "Exit 0 when the gateway of this machine is alive, 1 when it is not."
        ),
        "check-config": Entry(
            "gateway.cli.config:check_config", "Check settings, routes and price lists: every fault at once."
        ),
        "routes": Entry(
            "gateway.cli.routes:routes", "The route table: what is open, and why a request is let in or not."
        ),
        "migrate": Entry("gateway.cli.migrate:migrate", "Bring the database schema up to date, or show where it is."),
        "tenant": Entry("gateway.cli.tenants:tenant", "Organisations: the unit of isolation, limits and the account."),
        "plan": Entry(
            "gateway.cli.plans:plan", "Limits and routes under one name, for all tenants that are on the plan."
        ),
        "user": Entry("gateway.cli.users:user", "People, and who belongs to which tenant."),
        "operator": Entry("gateway.cli.operators:operator", "Who may act across tenants."),
        "key": Entry("gateway.cli.keys:key", "API keys: make, list, change, rotate, revoke."),
        "service-account": Entry(
            "gateway.cli.service_accounts:service_account",
            "Programs of a tenant that get short tokens for a secret.",
        ),
        "signing-keys": Entry(
            "gateway.cli.signing_keys:signing_keys", "The keys that sign tokens: list, rotate, revoke."
        ),
        "issuer": Entry("gateway.cli.issuers:issuer", "Others whose access tokens are taken."),
        "limits": Entry("gateway.cli.limits:limits", "Limits of tenants, users and keys."),
        "usage": Entry("gateway.cli.usage:usage", "What tenants have used."),
        "audit": Entry("gateway.cli.audit:audit", "The audit trail: every change, chained so that tampering shows."),
        "completion": Entry("gateway.cli.completion:completion", "Print the completion script of a shell."),
    }


@click.group(cls=_Gateway, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway", message="%(prog)s %(version)s")
def gateway() -> None:
    """Tahoe Gateway: who may ask for transcription, how much, and what they used.

    Settings come from the command line, the environment (GATEWAY_...), the file of --config or GATEWAY_CONFIG, and
    defaults, in this order. Every command has --help.
    """
