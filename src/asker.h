/* asker: who is behind a request. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A thread of the kernel's NFS server, for a client. */
bool asker_is_nfsd(pid_t pid);
