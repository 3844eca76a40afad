#include "template_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io.h"

static int finish(FILE *out, char **text, char **ret_text)
{
    if (fclose(out) != 0) return -ENOMEM;
    *ret_text = io_take(*text);
    return 0;
}

/* At "${": writes the value and returns what follows; NULL: see template_expand(). */
static const char *expand_one(FILE *out, const char *at, const char *end, template_value_fn value, void *data,
                              const char **ret_name, size_t *ret_length)
{
    const char *name = at + 2, *close = memchr(name, '}', end - name), *text;

    *ret_name = name;
    *ret_length = close ? close - name : 0;
    text = close ? value(name, close - name, data) : NULL;
    if (!text) return NULL;
    fputs(text, out);
    return close + 1;
}

int template_expand(const char *body, size_t size, template_value_fn value, void *data, char **ret_text,
                    size_t *ret_size, const char **ret_name, size_t *ret_length)
{
    _cleanup_free_ char *text = NULL;
    const char *at = body, *end = body + size;
    FILE *out = open_memstream(&text, ret_size);

    if (!out) return -ENOMEM;
    while (at && at < end) {
        const char *next = memmem(at, end - at, "${", 2);
        size_t plain = (next ? next : end) - at;

        if (next && plain > 0 && next[-1] == '$') {
            /* "$${": what came before, without the first '$' */
            fwrite(at, 1, plain - 1, out);
            fputs("${", out);
            at = next + 2;
            continue;
        }
        fwrite(at, 1, plain, out);
        at = next ? expand_one(out, next, end, value, data, ret_name, ret_length) : end;
    }
    if (!at && size > 0) {
        fclose(out);
        return -ENODATA;
    }
    return finish(out, &text, ret_text);
}

char *template_escape(const char *text, size_t size, size_t *ret_size)
{
    char *body = NULL;
    FILE *out = open_memstream(&body, ret_size);

    if (!out) return NULL;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '$' && i + 1 < size && text[i + 1] == '{') putc('$', out);
        putc(text[i], out);
    }
    if (fclose(out) == 0) return body;
    free(body);
    return NULL;
}
