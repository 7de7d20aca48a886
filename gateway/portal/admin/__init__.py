"""Pages for the people who administer a tenant: the operations of the JSON API, asked by a person in a browser.

============== ==============================================================================
sections       which pages there are, and what they need
visit          who is there: what they may, what they ask of an operation, the frame of their pages
times          ranges, buckets and days as the person's clock says them
charts         the geometry of bars; ``lines`` what was used, bucket by bucket
overview       what was used lately, and how much of the limits
keys           API keys; ``new_keys`` makes and replaces them
members        members and their roles; ``invitations`` who was asked to join
usage          over a time of one's choice, by whom and by what
limits         all that hold, and how much of each is in use
audit          who did what, before and after
============== ==============================================================================

No rule stands here: a page asks :func:`gateway.portal.api.operations.perform`, as the API's own door does, and shows
what comes of it.
"""
