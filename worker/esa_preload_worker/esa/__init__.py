"""The client of Alibaba Cloud ESA's scheduled-preload API: a call in, a typed value or a class of error out."""

from esa_preload_worker.esa.client import EsaClient
from esa_preload_worker.esa.codes import LABELS
from esa_preload_worker.esa.credentials import (
    ChainCredentials,
    Credential,
    CredentialSource,
    StaticCredentials,
    credentials_from_env,
)
from esa_preload_worker.esa.errors import (
    PASSING_ERRORS,
    BlockedError,
    EsaError,
    FailedFileError,
    JobCapError,
    NotFoundError,
    NotSentError,
    RefusedError,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.esa.model import (
    Job,
    JobPage,
    PlanOrder,
    PlansCreated,
    PlanState,
    RefusedUrl,
    Site,
    SitePage,
)
from esa_preload_worker.esa.wire import OPERATIONS

__all__ = [
    "LABELS",
    "OPERATIONS",
    "PASSING_ERRORS",
    "BlockedError",
    "ChainCredentials",
    "Credential",
    "CredentialSource",
    "EsaClient",
    "EsaError",
    "FailedFileError",
    "Job",
    "JobCapError",
    "JobPage",
    "NotFoundError",
    "NotSentError",
    "PlanOrder",
    "PlanState",
    "PlansCreated",
    "RefusedError",
    "RefusedUrl",
    "Site",
    "SiteBusyError",
    "SitePage",
    "SizeError",
    "StaticCredentials",
    "ThrottledError",
    "UncertainError",
    "credentials_from_env",
]
