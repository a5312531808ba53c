"""The typed recipe: the whole configuration of a build, in one file that the build can be repeated from."""

from typing import Annotated

from msgspec import Meta, Struct

from newsdesk.build.recipe.fields import Name
from newsdesk.build.recipe.members import EncoderMember, Member, NgramMember, Teaching
from newsdesk.build.recipe.settings import Card, Compile, Engines, Ensemble, Quantise, Repository, Verify
from newsdesk.build.recipe.sources import Data, Split


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole build: data, members, and the settings of every stage."""

    name: Name
    labels: list[str] = []
    """In the order of the outputs. Empty: the distinct labels of the training rows, sorted."""
    data: Data
    members: Annotated[list[Member], Meta(min_length=1)]
    teaching: Teaching | None = None
    seed: int = 17
    split: Split = Split()
    quantise: Quantise = Quantise()
    engines: Engines = Engines()
    compile: Compile = Compile()
    verify: Verify = Verify()
    ensemble: Ensemble = Ensemble()
    repository: Repository = Repository()
    card: Card = Card()

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        for place, member in enumerate(self.members):
            for teacher in member.distil.teachers if member.distil else ():
                if teacher not in names or teacher == member.name:
                    others = [*names[:place], *names[place + 1 :]]
                    raise ValueError(
                        f"member {member.name} has the teacher {teacher!r}; expected another member of this recipe "
                        f"({', '.join(others) or 'there is none'})"
                    )
            asks_teachers = isinstance(member, NgramMember) and (member.student.excerpts or member.student.unlabelled)
            if asks_teachers and not (member.distil and (self.teaching or self.teachers(member))):
                raise ValueError(
                    f"member {member.name}: nobody labels the excerpts or unlabelled texts; name teachers in `distil`, "
                    "or remove them"
                )

        if self.split.folds and (self.teaching or any(_needs_a_split(member) for member in self.members)):
            raise ValueError(
                "split.folds asks every member about rows that it did not see, which distil, teaching, snapshots, "
                "pretrain and calibration_folds know nothing of; remove them, or split.folds"
            )

    @property
    def balanced(self) -> bool:
        """Whether answers are decided as if labels were equally frequent: where a member's fit weighs them alike."""
        return any(member.balanced for member in self.members)

    def teachers(self, member: Member) -> list[Name]:
        """Return the names of `member`'s teachers; none where it learns from labels alone, or from `teaching`."""
        if member.distil is None or member.distil.teachers or self.teaching:
            return member.distil.teachers if member.distil else []
        names = [other.name for other in self.members]
        return names[names.index(member.name) + 1 :]


def _needs_a_split(member: Member) -> bool:
    of_encoder = isinstance(member, EncoderMember) and (member.train.snapshots or member.pretrain)
    return bool(member.distil or member.calibration_folds or of_encoder)
