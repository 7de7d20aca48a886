"""What every page and answer goes through: forms, refusals, templates, headers.

=============== ==============================================================================
bodies          forms and JSON, validated
problem         a refusal on its way; ``problem_answers`` makes it RFC 9457 for programs, a page for browsers
crosssite       requests that other sites make (CSRF)
shield          security headers
cached          what anybody may keep: ETags, 304
pages           templates, the style sheet and scripts that they name; ``dates`` and ``figures`` as people write them
=============== ==============================================================================
"""
