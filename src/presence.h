/* presence: is a node up? Told by the NFS server's connections: clients of NFSv3 have no list of their own in the kernel. */
#pragma once

/* The address from which the node holds a connection to this machine's NFS server: `ip` (NULL: not known), or one that mountd's
 * rmtab(5) has for its root. Caller frees; NULL: none. */
char *presence_of(const char *serial, const char *ip);
