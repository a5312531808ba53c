"""Whether a member's base can be had, asked once and at once: the libraries that load it try for a minute."""

from pathlib import Path

from newsdesk.build.errors import RecipeError

_SECONDS = 5.0


def check(base: str, name: str = "NAME") -> None:
    """Check that the base of a member can be had.

    Args:
        base: a folder of a model, or a name at the hub
        name: of the member

    Raises:
        RecipeError: it is no such folder, nor does the hub give it.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    folder = Path(base)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RecipeError(_advised(base, name, "the folder has no config.json"))
        return
    try:
        if isinstance(try_to_load_from_cache(base, "config.json"), str):
            return
        if constants.HF_HUB_OFFLINE:
            raise RecipeError(_advised(base, name, "the hub is not asked, as HF_HUB_OFFLINE says"))
        HfApi().model_info(base, timeout=_SECONDS)
    except HFValidationError:
        raise RecipeError(_advised(base, name, "there is no such folder")) from None
    except RecipeError:
        raise
    except Exception as error:  # the hub's client raises many kinds; all of them mean that there is no base
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RecipeError(_advised(base, name, f"the hub does not give it ({reason})")) from error


def _advised(base: str, name: str, why: str) -> str:
    return (
        f"member {name} starts from the pretrained encoder {base!r}, which is not here: {why}. Name a local folder "
        f'(--set members.{name}.base=FOLDER); a member of kind = "ngrams" needs none'
    )
