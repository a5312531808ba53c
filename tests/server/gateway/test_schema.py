"""Whatever the OpenAPI document allows ends in an answer, and never in a server error."""

import hypothesis
import schemathesis
from schemathesis.checks import not_a_server_error

from tests.server.gateway.conftest import Served

# The stream of events has no end, and the load of a model that is not there is, by Triton's word, a 500.
LEFT_OUT = ("/v1/metrics/live", "/v2/repository/models/{model}/load")
BOUNDED = hypothesis.settings(max_examples=20, suppress_health_check=list(hypothesis.HealthCheck), database=None)


def test_no_server_error(served: Served) -> None:
    def check(case: schemathesis.Case) -> None:
        hypothesis.assume(case.path_parameters.get("model") != "ag_news")  # others' tests need it loaded
        key = served.keys["admin" if case.path.startswith("/v1/keys") else "operator"]
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=[not_a_server_error])

    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    tried = [operation for result in document.get_all_operations() if (operation := result.ok()).path not in LEFT_OUT]
    assert len(tried) > 20
    for operation in tried:
        BOUNDED(hypothesis.given(case=operation.as_strategy())(check))()
