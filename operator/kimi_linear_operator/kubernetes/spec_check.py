"""The check that a spec must pass before the operator applies it: the rules, and the access that its pods get.

A spec also changes after this check. The operator puts values of its records back into the spec, and users can edit
these records. So a changed spec must pass the same check.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.check import Checked, Checker
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource

R = TypeVar("R", bound=Resource)


class SpecCheck(Generic[R]):
    """Checks the specs of one kind."""

    def __init__(
        self, checker: Checker[R], build_templates: Callable[[R], Iterable[Manifest]], *, allows_node_access: bool
    ) -> None:
        """Take what a check needs.

        Args:
            checker: The rules of the kind.
            build_templates: Builds the pod templates of a resource, as far as its spec determines them.
            allows_node_access: Whether the administrator allows access beyond the pod.
        """
        self._checker = checker
        self._build_templates = build_templates
        self._allows_node_access = allows_node_access

    def check(self, manifest: Manifest) -> Checked[R]:
        """Check a stored resource by its rules. Refuse access beyond the pod, unless the administrator allows it."""
        checked = self._checker.check_stored(manifest)
        return checked if self._allows_node_access else access.refuse_access(checked, self._build_templates)

    def unless_refused(self, resource: R, changed: R) -> R:
        """Return a resource with changes that come from a record, if it passes the check.

        Args:
            resource: The resource as users wrote it. It has passed the check.
            changed: The resource with values of a record, or without values that the record lacks.

        Returns:
            `changed` if it passes the check, else `resource`.
        """
        if changed is resource:
            return resource
        # Nulls must stay, because a null in podTemplate can remove a field that protects the node.
        manifest = changed.model_dump(by_alias=True, exclude_unset=True)
        return changed if self.check(manifest).is_valid else resource
