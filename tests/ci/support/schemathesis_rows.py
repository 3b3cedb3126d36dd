"""For schemathesis: what no JSON Schema can say. A name that is meant for a feature may be refused, and so may a text
that is no CSV file."""

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData


@schemathesis.hook
def filter_failure(context, failure, case, response):
    unsaid = case.media_type == "text/csv" or "Did you mean" in response.text
    return not (isinstance(failure, RejectedPositiveData) and unsaid)
