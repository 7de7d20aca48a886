"""``python -m gateway.portal FD``: started by the parent, with the control socket's descriptor."""

from gateway.portal.process import Portal
from gateway.worker import main

main(Portal)
