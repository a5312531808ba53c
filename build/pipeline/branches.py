"""The members that are combined, and which stages each has."""

from dataclasses import dataclass

from newsdesk.build.pipeline.families import family
from newsdesk.build.pipeline.fits import MemberFit
from newsdesk.build.recipe import EncoderMember, Member, Recipe


@dataclass(frozen=True)
class Branch:
    """A member that is combined: a member of the recipe, or a snapshot of its training."""

    fit: MemberFit
    member: Member
    stages: dict[str, str]
    """Ids of its stages, by their names, in the order in which they are shown."""

    @property
    def name(self) -> str:
        """The name of its fit."""
        return self.fit.name


def of_member(recipe: Recipe, member: Member) -> list[Branch]:
    """Return a member's branch, or one for each snapshot of its training."""
    count = member.train.snapshots if isinstance(member, EncoderMember) else 0
    return [_branch(recipe, member, snapshot) for snapshot in (range(1, count + 1) if count else (0,))]


def _branch(recipe: Recipe, member: Member, snapshot: int) -> Branch:
    name = f"{member.name}-{snapshot}" if snapshot else member.name
    has = {
        "embed": is_frozen(member),
        "out-of-fold": bool(recipe.split.folds),
        "teach": is_taught(recipe, member),
        "pretrain": pretrains(member),
        "train": True,
    }
    ids = {stage: f"{stage} {member.name}" for stage, is_there in has.items() if is_there}
    engines = ["engines"] if recipe.engines.runtimes and family(member).windowed else []
    ids |= {stage: f"{stage} {name}" for stage in ("export", "quantise", *engines, "compile", "verify", "evaluate")}
    ids |= {"cross-fit": f"cross-fit {name}"} if member.calibration_folds else {}
    return Branch(MemberFit(name=name, kind=member.kind, snapshot=snapshot), member, ids)


def is_taught(recipe: Recipe, member: Member) -> bool:
    """Return whether teachers label texts for a member."""
    return bool(recipe.teachers(member)) or bool(recipe.teaching and member.distil)


def pretrains(member: Member) -> bool:
    """Return whether a member's base is pretrained further on."""
    return isinstance(member, EncoderMember) and member.pretrain is not None


def is_frozen(member: Member) -> bool:
    """Return whether a member's encoder stays as it is."""
    return isinstance(member, EncoderMember) and member.frozen is not None
