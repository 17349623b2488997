"""Operator that downloads the output of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.assets.outlets import attach_builds
from airflow_provider_faraday.openlineage import ReportsLineage
from airflow_provider_faraday.waiting.arguments import check_literals, check_rendered, naming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_faraday.lineage import Lineage


class DownloadTargetOperator(ReportsLineage, BaseOperator):
    """Download the output of a target, such as a hosted CSV, to any object storage of Airflow.

    The file is streamed, and appears at the destination when it is complete. Until then, an existing file is
    not touched. A local file keeps its mode, and a symbolic link stays a link. The bytes are stored as sent:
    a compressed file stays compressed. If Faraday rebuilds the target meanwhile, it is downloaded again.

    Returns ``{"path": str, "bytes": int, "md5": str, "count": int | None, "last_updated_output_at": str |
    None}``, with the count and the build time of the target. Each entry is also a separate XCom.

    The operator does not wait: it downloads the last build. Wait for the target with a sensor first.

    https://faraday.ai/docs/reference/downloadtarget

    :param target_id: UUID or name of the target (templated).
    :param path: the file to write, such as ``s3://aws_default@bucket/predictions.csv``, where ``aws_default``
        is an Airflow connection; text or an ``ObjectStoragePath`` (templated).
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid, or if the target is archived or was never built.
    :raises FaradayLookupError: if a name does not identify one resource.
    :raises ResourcesFailedError: if the target has the status ``error``.
    :raises FaradayResponseError: if the response is not the file: a web page, a JSON document, or empty
        although the target has rows.
    :raises FaradayApiError: if a request fails, or the response is not complete.
    """

    template_fields: Sequence[str] = ("target_id", "path", "faraday_conn_id")
    ui_color = "#d9f0e3"

    _downloaded: tuple[dict[str, Any], dict[str, Any]] | None = None
    """What the task returns, and the target; nothing but its id until it is downloaded."""

    def __init__(
        self,
        *,
        target_id: str,
        path: str | ObjectStoragePath,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.multiple_outputs = True
        self.target_id = target_id
        self.path = path
        self.faraday_conn_id = faraday_conn_id
        self._given = check_literals(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the target."""
        # Not at the top: run-time dependencies are not loaded when a DAG file is parsed.
        from airflow_provider_faraday.hooks import faraday, files

        hook = faraday.FaradayHook(self.faraday_conn_id)
        with naming(self):
            check_rendered(self)
            target_id = hook.find_id("targets", self.target_id)
            self._downloaded = {}, {"id": target_id}
            self._downloaded = files.download_target(hook.client, hook.log, target_id, self.path)
        result, target = self._downloaded
        attach_builds(context, self.outlets, resource_type_named("targets"), [target])
        return result

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import Lineage, file_node, resource_node

        if not self._downloaded:
            return Lineage()
        result, target = self._downloaded
        node = resource_node("targets", target)
        return Lineage([node], [file_node(self.path, rows=node.rows, size=result.get("bytes"))])
