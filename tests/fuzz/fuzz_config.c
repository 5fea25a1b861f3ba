/*
 * Any bytes as a configuration: no crash, no leak; and what is read and printed is read again as the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../broker/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

static char *print(const struct config *config, size_t *len)
{
    char *text;
    FILE *out = open_memstream(&text, len);
    expect(out != NULL);
    config_print(config, out);
    fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config, again;
    FILE *messages = fopen("/dev/null", "w");
    expect(messages && config_init(&config, true) == 0 && config_init(&again, true) == 0);
    if (config_read_text(&config, "fuzz", (const char *)data, size, messages) == 0) {
        size_t first_len, second_len;
        char *first = print(&config, &first_len);
        expect(config_read_text(&again, "printed", first, first_len, messages) == 0);
        char *second = print(&again, &second_len);
        expect(first_len == second_len && memcmp(first, second, first_len) == 0);
        free(first);
        free(second);
    }
    config_deinit(&config);
    config_deinit(&again);
    fclose(messages);
    return 0;
}
