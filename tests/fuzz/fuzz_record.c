/*
 * Fuzzes the reader of audit lines: any bytes are safe, what it takes is within its bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../policy/fobctl/record.c"

static void expect(bool held)
{
    if (!held)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct record record;
    if (record_parse(&record, (const char *)data, size) != 0)
        return 0;
    expect(record.path_len < sizeof record.path && record.path[record.path_len] == '\0');
    expect(record.real_len < sizeof record.real && record.real[record.real_len] == '\0');
    expect(strnlen(record.rule, sizeof record.rule) < sizeof record.rule);
    expect(strnlen(record.rights, sizeof record.rights) < sizeof record.rights);
    expect(record_rights(&record) <= RIGHT_ALL);
    expect(!record_wants_rule(&record) || !record.allowed);
    return 0;
}
