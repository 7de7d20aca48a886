"""What HTTP says and what may be believed of it: requests, their headers and credentials, and what is answered.

============ ==============================================================================
inquiry      the question, as both doors ask it; ambiguous targets are refused here
questions    how each reverse proxy asks whether a request may pass
credentials  where a credential may stand in a request; the format of an API key
verdict      the answer: Admit, Deny, and every refusal by name, status and code
headers      hop-by-hop removal; identity headers: delete by normalised name, then set
cookies      the session cookie; ``crosssite`` whether a page of our own sent it
cors         the pages of other sites that may call proxied routes from a browser
browsers     which refused request is a person's before a browser, and where that person signs in
upgrade      the opening of a WebSocket: what each side must say
subprotocols credentials where browsers must put them; ``tickets`` are the one-use ones among those
websocket    WebSocket frames as they pass: counted and judged
============ ==============================================================================
"""
