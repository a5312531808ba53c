"""rollback, for the `newsdesk` command line."""

import json

from newsdesk.server.commands import AsJson, ModelRepository, State, fail, settings_of


def rollback(model_repository: ModelRepository = None, state: State = None, as_json: AsJson = False) -> None:
    """Go back to the version before: take the model's latest out of service, and have the running server load it."""
    settings = settings_of(model_repository=model_repository, state=state)
    from newsdesk.server import versions
    from newsdesk.server.ensemble.errors import ServerError
    from newsdesk.server.workspace import MODEL

    model = settings.model_repository / MODEL
    try:
        withdrawn, serves = versions.withdraw(model)
        if not as_json:
            print(f"version {withdrawn} is now {model / (withdrawn + versions.WITHDRAWN)}", flush=True)
        running = versions.reload(settings.state)
    except ServerError as error:
        fail(error)
    if as_json:
        print(json.dumps({"withdrawn": withdrawn, "latest": serves, "running": running}))
        return
    print("\n".join(f"the running server serves version {one}" for one in running) or f"version {serves} is the latest")
