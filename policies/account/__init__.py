"""What use amounts to: the record of a request, and what it costs.

=========== ==============================================================================
usage       the record of one request
usage_event the same as a CloudEvent
events      events for others: envelope, signature, retries
rating      what usage costs by a price list
price_book  reads the lists
=========== ==============================================================================
"""
