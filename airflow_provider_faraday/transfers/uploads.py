"""Operator that uploads a file to Faraday."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_faraday.openlineage import ReportsLineage
from airflow_provider_faraday.waiting.arguments import check_literals, check_rendered, naming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_faraday.lineage import Lineage


class UploadFileOperator(ReportsLineage, BaseOperator):
    """Upload a file from any object storage of Airflow to Faraday.

    A dataset of type ``hosted_csv`` reads all files of its upload directory, or only the latest. A file of
    the same name is replaced. If the newest file in the directory already is this one, nothing is sent. The
    file is streamed. After the upload, its size and MD5 are compared with Faraday's copy.

    Returns ``{"path": "<directory>/<filename>", "bytes": int, "md5": str, "skipped": bool, "uploaded_at":
    "<ISO 8601>", "updated_after": {"<dataset id>": "<ISO 8601>", …}}``. Each entry is also a separate XCom:
    pass ``operator.output["updated_after"]`` to a sensor as ``updated_after``. It has the end of the upload
    for each dataset that reads the directory, by Faraday's clock. Builds that finished before do not count.

    https://faraday.ai/docs/reference/createupload

    :param path: the file, such as ``s3://aws_default@bucket/orders.csv``, where ``aws_default`` is an Airflow
        connection; a string or an ``ObjectStoragePath``. Above 5 GB, a warning is logged (templated).
    :param directory: the upload directory: letters, digits, underscores and hyphens (templated).
    :param filename: the name in that directory, with one of the extensions csv, txt, gpg, pgp, gz and bz2; by
        default that of the file (templated).
    :param require_dataset: fail before anything is sent if no dataset reads the directory, or if that cannot
        be checked. By default, the log has a warning, and ``updated_after`` is empty.
    :param allow_empty: upload a file of 0 bytes, instead of failing.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :raises FaradayInputError: if an argument is not valid, or the file does not exist or is empty,
        in which case nothing is sent; also if the file changes while it is read, in which case Faraday keeps
        its copy.
    :raises FaradayNotFoundError: with ``require_dataset``, if no dataset reads the directory.
    :raises FaradayResponseError: if Faraday's copy differs from the file.
    :raises FaradayApiError: if a request fails.
    """

    template_fields: Sequence[str] = ("path", "directory", "filename", "faraday_conn_id")
    ui_color = "#d9f0e3"

    _uploaded: dict[str, Any] | None = None
    """What the task returns."""

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        directory: str,
        filename: str | None = None,
        require_dataset: bool = False,
        allow_empty: bool = False,
        faraday_conn_id: str = "faraday_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # So that .output["updated_after"] is what a sensor's updated_after takes.
        self.multiple_outputs = True
        self.path = path
        self.directory = directory
        self.filename = filename
        self.require_dataset = require_dataset
        self.allow_empty = allow_empty
        self.faraday_conn_id = faraday_conn_id
        self._given = check_literals(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the file."""
        # Not at the top: run-time dependencies are not loaded when a DAG file is parsed.
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        with naming(self):
            check_rendered(self)
            self._uploaded = FaradayHook(self.faraday_conn_id).upload_file(
                self.path,
                self.directory,
                self.filename,
                require_dataset=self.require_dataset,
                allow_empty=self.allow_empty,
            )
        return self._uploaded

    def _lineage(self) -> Lineage:
        from airflow_provider_faraday.lineage import Lineage, file_node, upload_node

        size = self._uploaded["bytes"] if self._uploaded else None
        is_sent = self._uploaded and not self._uploaded["skipped"]
        return Lineage(
            [file_node(self.path, size=size)], [upload_node(self.directory, size=size if is_sent else None)]
        )
