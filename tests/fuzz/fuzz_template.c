/* fuzz_template: the text of a template; and whatever is escaped expands to itself. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "template_text.h"

static const char *value(const char *name, size_t length, void *data)
{
    (void)data;
    if (length == 6 && memcmp(name, "serial", 6) == 0) return "ab42320d";
    return length == 3 && memcmp(name, "mac", 3) == 0 ? "" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data, *name = NULL;
    char *text = NULL, *escaped;
    size_t text_size = 0, escaped_size = 0, length = 0;
    int r = template_expand(body, size, value, NULL, &text, &text_size, &name, &length);

    if (r == 0) free(text);
    else fuzz_must(name >= body && length <= size && name + length <= body + size);

    escaped = template_escape(body, size, &escaped_size);
    fuzz_must(escaped);
    fuzz_must(template_expand(escaped, escaped_size, value, NULL, &text, &text_size, &name, &length) == 0);
    fuzz_must(text_size == size && (size == 0 || memcmp(text, body, size) == 0));
    free(text);
    free(escaped);
    return 0;
}
