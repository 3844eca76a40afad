/* template_text: ${name} in the body of a template, and what stands for it. */
#pragma once

#include <stddef.h>

/* The value of a name of `length` bytes, NULL: it has none. */
typedef const char *(*template_value_fn)(const char *name, size_t length, void *data);

/* The body with every ${name} replaced; "$${" becomes "${". Caller frees *ret_text, which has a NUL behind its end. 0;
 * -ENODATA: the name at *ret_name, *ret_length bytes of the body, has no value, or no end (length 0); -ENOMEM. */
int template_expand(const char *body, size_t size, template_value_fn value, void *data, char **ret_text,
                    size_t *ret_size, const char **ret_name, size_t *ret_length);

/* The other way: a body that expands to this text. NULL: no memory. Caller frees. */
char *template_escape(const char *text, size_t size, size_t *ret_size);
