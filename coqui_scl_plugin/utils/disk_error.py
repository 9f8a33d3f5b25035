"""Errors of a disk, which libraries hide behind others of their own."""

import errno

_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


def disk_error(error: BaseException | None) -> OSError | None:
    """Return the error of a disk that led to an error, or that it is; None if there is none.

    `torch.save` ends with a RuntimeError of its archive where the disk is full.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
