/* made_acl: POSIX access control lists as the kernel's system.posix_acl_* attributes hold them. */
#pragma once

#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#define ACL_ACCESS_NAME "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"

enum made_acl_tag {
    ACL_OWNER = 0x01,
    ACL_USER = 0x02,
    ACL_GROUP_OWNER = 0x04,
    ACL_GROUP = 0x08,
    ACL_MASK = 0x10,
    ACL_OTHER = 0x20
};

struct made_acl_entry {
    uint16_t tag;
    uint16_t permissions;
    uint32_t id; /* of ACL_USER and ACL_GROUP; ACL_NO_ID in the others */
};
#define ACL_NO_ID 0xffffffffu

struct made_acl {
    uint32_t version;
    struct made_acl_entry entries[8];
};

/* Owner rwx, one named user, group, mask, other: the shortest list that says more than the mode. Its size in bytes. */
static inline size_t made_acl_for_user(struct made_acl *ret_acl, uint32_t uid, unsigned user, unsigned group,
                                       unsigned mask, unsigned other)
{
    *ret_acl = (struct made_acl){
        .version = htole32(2),
        .entries = {{htole16(ACL_OWNER), htole16(7), ACL_NO_ID},
                    {htole16(ACL_USER), htole16((uint16_t)user), htole32(uid)},
                    {htole16(ACL_GROUP_OWNER), htole16((uint16_t)group), ACL_NO_ID},
                    {htole16(ACL_MASK), htole16((uint16_t)mask), ACL_NO_ID},
                    {htole16(ACL_OTHER), htole16((uint16_t)other), ACL_NO_ID}},
    };
    return sizeof(ret_acl->version) + 5 * sizeof(struct made_acl_entry);
}
