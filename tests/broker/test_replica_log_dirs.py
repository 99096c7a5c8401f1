"""AlterReplicaLogDirs at the byte level: a path that cannot be one is an unknown folder, not a failure of ours."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from tests.broker.wire import Wire


@pytest.mark.parametrize("path", ["/a\0b", "\0", "relative", "", "/nowhere"])
def test_a_folder_that_is_none_of_ours_is_not_found(wire: Wire, topic: str, path: str) -> None:
    wanted = AlterReplicaLogDir(path=path, topics=[AlterReplicaLogDirTopic(name=topic, partitions=[0])])
    answer = wire.call(2, AlterReplicaLogDirsRequest(dirs=[wanted]))
    (result,) = answer.results[0].partitions
    assert result.error_code == ErrorCode.LOG_DIR_NOT_FOUND
